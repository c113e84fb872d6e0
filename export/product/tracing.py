"""A Keras network as a function with the names that files have."""

from typing import Any


def name_tensors(model: Any) -> Any:
    """A `tf.function` from `image`, (1, h, w, channels) float32, to `mask`: the batch is one, as in every file.

    Converters name what they read after layers; a signature takes its keys from the parameter and the dictionary.
    """
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    return tf.function(lambda image: {"mask": model(image, training=False)}, input_signature=[spec], autograph=False)
