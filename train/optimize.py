"""One step of training as a TensorFlow graph, and the moving average of the weights."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from portraitseg.config import Config
from portraitseg.models.keras_route import keras, tf

#: Neither biases nor the parameters of batch norm decay (Goyal et al., 2017).
_NO_DECAY = ("bias", "gamma", "beta")

Step = Callable[[Any, Any, Any], Mapping[str, Any]]


class Optimization:
    """A model with its optimizer and the exponential moving average of its weights.

    Attributes:
        model: raw weights while training, averaged ones inside `averaged()`.
    """

    def __init__(self, model: Any, loss: Callable[..., Any], config: Config) -> None:
        """Args: model: last layer the sigmoid; loss: (logits, target) → (total, terms); config: `train` is used."""
        self.model = model
        self._loss = loss
        self._clip_norm = config.train.clip_norm
        self._decay = config.train.ema
        self._optimizer = keras.optimizers.AdamW(weight_decay=config.train.weight_decay)
        self._optimizer.exclude_from_weight_decay(var_names=list(_NO_DECAY))
        # kept from the start: freezing a layer later must not change what the optimizer's slots belong to
        self._trainable = list(model.trainable_variables)
        self._optimizer.build(self._trainable)
        self._average = [tf.Variable(v, trainable=False, name=f"ema{i}") for i, v in enumerate(model.weights)]
        self._step: Step = self._trace()

    def step(self, images: np.ndarray, targets: np.ndarray, learning_rate: float, count: int) -> dict[str, float]:
        """Does step number `count` (from 0).

        Args:
            images: (n, h, w, 3) float32 in [0, 1].
            targets: (n, h, w, 1) float32 in [0, 1].

        Returns:
            The loss under `loss`, and each term under its name.
        """
        self._optimizer.learning_rate.assign(learning_rate)
        # a short memory at the start: the average would else drag the random initial weights along
        decay = min(self._decay, (1 + count) / (10 + count)) if self._decay else 0.0
        terms = self._step(tf.constant(images), tf.constant(targets), tf.constant(decay, tf.float32))
        return {name: float(value) for name, value in terms.items()}

    def freeze_batch_norm(self) -> None:
        """From here on the statistics of batch norm stay as they are."""
        for layer in self.model.layers:
            # QAT wraps the layer
            inner = getattr(layer, "layer", layer)
            if isinstance(inner, keras.layers.BatchNormalization):
                inner.trainable = False
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

    def _trace(self) -> Step:
        # both outputs: the loss needs the logits, and the observers of QAT behind the sigmoid need its output
        network = keras.Model(self.model.input, [self.model.layers[-1].input, self.model.output])
        weights = self.model.weights

        @tf.function
        def step(images: Any, targets: Any, decay: Any) -> Mapping[str, Any]:
            with tf.GradientTape() as tape:
                logits, _ = network(images, training=True)
                total, terms = self._loss(logits, targets)
            gradients = tape.gradient(total, self._trainable)
            if self._clip_norm is not None:
                gradients, norm = tf.clip_by_global_norm(gradients, self._clip_norm)
            else:
                norm = tf.linalg.global_norm(gradients)
            self._optimizer.apply_gradients(zip(gradients, self._trainable, strict=True))
            for average, weight in zip(self._average, weights, strict=True):
                if average.dtype.is_floating:
                    average.assign_add((1 - decay) * (weight - average))
                else:
                    average.assign(weight)
            return {"loss": total, "gradient_norm": norm, **terms}

        return step


def is_finite(terms: Mapping[str, float]) -> bool:
    """True when every figure is a number."""
    return all(math.isfinite(value) for value in terms.values())
