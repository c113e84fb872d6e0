"""One step of training as a TensorFlow graph, and the moving average of the weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from portraitseg import contract
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.models.keras_route import keras, tf
from train import losses
from train.replicas import add_up
from train.stream import Batch

#: Neither biases nor the parameters of batch norm decay (Goyal et al., 2017).
_NO_DECAY = ("bias", "gamma", "beta")

#: What a network gives to the losses, by its output.
_LOGITS = ("logits", "boundary_logits")

Step = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


class Optimization:
    """A model with its optimizer and the exponential moving average of its weights.

    Attributes:
        model: what is trained; raw weights while training, averaged ones between two calls of `swap`.
        deployed: the part of it that is validated, saved and exported; the same weights.
    """

    def __init__(self, model: Any, config: Config) -> None:
        """Builds the optimizer and the losses.

        Args:
            model: outputs [mask] or [mask, boundary], each a sigmoid layer.
            config: `train` and `loss` are used.

        Raises:
            InputError: as `check_losses`.
        """
        needs = check_losses(model, config)
        self.deployed = deployed(model)
        # a head that no loss trains would only cost time
        self.model = model if "boundary_logits" in needs else self.deployed
        self._loss = losses.build(config.loss)
        self._clip_norm = config.train.clip_norm
        self._decay = config.train.ema
        self._optimizer = keras.optimizers.AdamW(weight_decay=config.train.weight_decay)
        self._optimizer.exclude_from_weight_decay(var_names=list(_NO_DECAY))
        # kept from the start: freezing a layer later must not change what the optimizer's slots belong to
        self._trainable = list(self.model.trainable_variables)
        self._optimizer.build(self._trainable)
        self._average = self._begin_average()
        self._step: Step = self._trace()

    def step(self, batch: Batch, learning_rate: float, count: int) -> dict[str, float]:
        """Does step number `count` (from 0).

        Returns:
            The loss under `loss`, and each term under its name.
        """
        self._optimizer.learning_rate.assign(learning_rate)
        # a short memory at the start: the average would else drag the random initial weights along
        decay = min(self._decay, (1 + count) / (10 + count)) if self._decay else 0.0
        terms = self._step(self._tensors(batch), tf.constant(decay, tf.float32))
        return {name: float(value) for name, value in terms.items()}

    def _tensors(self, batch: Batch) -> dict[str, Any]:
        pixels = {"images": batch.images, "target": batch.targets[..., None], "plain": batch.plain}
        if batch.edges is not None:
            pixels["edge"] = batch.edges[..., None]
        if batch.ignore is not None:
            pixels["known"] = np.where(batch.ignore > 0, np.uint8(0), np.uint8(255))[..., None]
        return {
            name: tf.constant(contract.bytes_to_float(values)) for name, values in pixels.items() if values is not None
        }

    def freeze_batch_norm(self) -> None:
        """From here on the statistics of batch norm stay as they are."""
        for layer in self.model.layers:
            # QAT wraps the layer
            inner = getattr(layer, "layer", layer)
            if isinstance(inner, keras.layers.BatchNormalization):
                inner.trainable = False
        self._step = self._trace()

    def freeze_ranges(self, freeze: Callable[[Any], Sequence[Any]]) -> None:
        """From here on training moves none of the variables that `freeze(model)` returns; their average is they."""
        index_of = {id(weight): index for index, weight in enumerate(self.model.weights)}
        for variable in freeze(self.model):
            # it would else go on following them
            self._average[index_of[id(variable)]].assign(variable)
        self._step = self._trace()

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """Everything that a resumed run needs."""
        groups = {"weights": self.model.weights, "average": self._average, "optimizer": self._optimizer.variables}
        # scalars (QAT has some) come as numpy's own scalar type
        return {name: [np.asarray(v.numpy()) for v in variables] for name, variables in groups.items()}

    def restore(self, arrays: Mapping[str, list[np.ndarray]]) -> None:
        """Puts back what `arrays` returned."""
        self.model.set_weights(arrays["weights"])
        for group, variables in (("average", self._average), ("optimizer", self._optimizer.variables)):
            for variable, value in zip(variables, arrays[group], strict=True):
                variable.assign(value)

    def swap(self) -> None:
        """Exchanges raw and averaged weights; called twice, nothing has changed."""
        if not self._decay:
            return
        raw = self.model.get_weights()
        self.model.set_weights([v.numpy() for v in self._average])
        for variable, value in zip(self._average, raw, strict=True):
            variable.assign(value)

    def roll_back(self) -> None:
        """Takes back what a step left that failed half-way; here it is only other machines that fail one."""

    def _begin_average(self) -> list[Any]:
        return [tf.Variable(v, trainable=False, name=f"ema{i}") for i, v in enumerate(self.model.weights)]

    def _trace(self) -> Step:
        # nothing in it branches on a tensor: to translate its Python anew would take half of the time to trace it
        return tf.function(self._make_step(), autograph=False)

    def _make_step(self) -> Step:
        """One step of one replica, as Python; of several, each has its share of the batch."""
        heads = [self.model.get_layer(name) for name in self.model.output_names]
        # both ends of each sigmoid: losses need the logits, and the observers of QAT behind it need its output
        network = keras.Model(self.model.input, [*(head.input for head in heads), *self.model.outputs])
        weights = self.model.weights

        def forward(images: Any) -> dict[str, Any]:
            logits = network(images, training=True)[: len(heads)]
            # of a network that computes in half precision too
            return dict(zip(_LOGITS, (tf.cast(maps, tf.float32) for maps in logits), strict=False))

        def step(tensors: Mapping[str, Any], decay: Any) -> Mapping[str, Any]:
            maps = {name: values for name, values in tensors.items() if name != "plain"}
            if "plain" in tensors:
                maps["plain_logits"] = forward(tensors["plain"])["logits"]
            # losses know photos, not what else the network sees
            maps["images"] = tensors["images"][..., :3]
            with tf.GradientTape() as tape:
                total, values = self._loss({**maps, **forward(tensors["images"])})
            gradients, terms = add_up(tape.gradient(total, self._trainable), {"loss": total, **values})
            if self._clip_norm is not None:
                gradients, norm = tf.clip_by_global_norm(gradients, self._clip_norm)
            else:
                norm = tf.linalg.global_norm(gradients)
            self._optimizer.apply_gradients(
                zip(gradients, self._trainable, strict=True), skip_gradients_aggregation=True
            )
            for average, weight in zip(self._average, weights, strict=True):
                if average.dtype.is_floating:
                    average.assign_add((1 - decay) * (weight - average))
                else:
                    average.assign(weight)
            return {"gradient_norm": norm, **terms}

        return step


def check_losses(model: Any, config: Config) -> frozenset[str]:
    """What the configured losses need, once it is known to be there.

    Raises:
        InputError: a loss that is unknown, or that needs a boundary head that the network does not have.
    """
    needs = losses.needs(config.loss)
    for name, weight in config.loss.items():
        if weight and "boundary_logits" in losses.needs_of(name) and len(model.outputs) < 2:
            raise InputError(
                f"loss.{name}: '{model.name}' has no boundary head: choose a network that has, or set loss.{name} to 0"
            )
    return needs


def deployed(model: Any) -> Any:
    """The network that is exported: of several outputs the first, the mask; the layers are shared."""
    if len(model.outputs) == 1:
        return model
    return keras.Model(model.input, model.outputs[0], name=model.name)


def is_finite(terms: Mapping[str, float]) -> bool:
    """True when every figure is a number."""
    return all(math.isfinite(value) for value in terms.values())
