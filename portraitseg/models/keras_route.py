"""The one import of Keras 2: TensorFlow, TFMOT and our networks must all see the same one."""

import os

# TFMOT 0.8 works on Keras 2 only and reads this when TensorFlow is first imported
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tf_keras as keras

__all__ = ["keras"]
