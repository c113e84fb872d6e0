"""The one import of Keras 2: TensorFlow, TFMOT and our networks must all see the same one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# TFMOT 0.8 works on Keras 2 only and reads this when TensorFlow is first imported
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# a machine without CUDA is the normal case here, yet TensorFlow reports it as an error
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """TensorFlow's C++ greets on stderr before its log level is read; Python's own errors still come through."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with native_stderr_hidden():
    import tensorflow as tf
    import tf_keras as keras

# "Compiled the loaded model, but …" at every save of a model that is never compiled
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "native_stderr_hidden", "tf"]
