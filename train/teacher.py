"""The frozen network whose answers a smaller one learns (Hinton et al., 2015)."""

from collections.abc import Callable
from typing import Any

from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras, tf

Teacher = Callable[[Any], Any]


def of(config: Config) -> Teacher:
    """Reads the h5 that `distill.teacher` names: a float one, of any network of ours, of any size.

    Returns:
        Inputs (n, h, w, c) float32 in [0, 1] of the network that learns, of which the first channels are taken →
        logits (n, h, w, 1), with moving averages in batch norm. Where its input has another size, photos and logits are
        resized, bilinear (antialiased where they shrink).

    Raises:
        InputError: none is named, not such an h5, or a network with an input of more channels.
    """
    path = config.distill.teacher
    if path is None:
        raise InputError("distill.teacher: none is named: name the float h5 of a run")
    model = checkpoint.load(path)
    height, width, channels = model.input_shape[1:]
    if channels > config.model.channels:
        raise InputError(
            f"distill.teacher {path}: takes {channels} channels, and the network that learns has "
            f"{config.model.channels}: name a network of RGB photos"
        )
    network = keras.Model(model.input, model.get_layer(model.output_names[0]).input)

    def answer(images: Any) -> Any:
        images = images[..., :channels]
        size = images.shape[1:3]
        if tuple(size) == (height, width):
            return network(images, training=False)
        logits = network(tf.image.resize(images, (height, width), antialias=True), training=False)
        return tf.image.resize(logits, size, antialias=True)

    return answer
