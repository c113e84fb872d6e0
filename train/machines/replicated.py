"""A training step that several devices, or one in half precision, do together: TensorFlow's strategies, our loop.

The network that is trained has its variables on every device, its batch norm is synchronized, and it may compute in
half precision. A plain twin of it is what is validated, saved and exported, so that no file shows how it was trained.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from portraitseg.config import Config
from portraitseg.models.keras_route import keras, tf
from train import replicas
from train.optimize import Optimization, Step, deployed
from train.stream import Batch, Share


class Replicated(Optimization):
    """An `Optimization` on all devices of a strategy; `deployed` is of the plain twin."""

    def __init__(
        self,
        twin: Any,
        build: Callable[[], Any],
        config: Config,
        strategy: Any,
        share_ranges: Callable[[Any, Callable[[Any], Any]], None] | None = None,
    ) -> None:
        """Builds the network that is trained.

        Args:
            twin: plain, with the weights to begin with; validated, saved and exported.
            build: makes it again, whatever its weights.
            config: as for `Optimization`; `train.precision` is that of float training.
            strategy: TensorFlow's, of one device or many.
            share_ranges: (model, gather) → makes the ranges that a QAT network observes those of all replicas.
        """
        self._strategy = strategy
        self._is_within_step = False
        with strategy.scope():
            with _own_copies(), _precision(config.train.precision):
                model = build()
            if strategy.num_replicas_in_sync > 1:
                replicas.synchronize(model)
                if share_ranges is not None:
                    share_ranges(model, replicas.gather)
            model.set_weights(twin.get_weights())
            super().__init__(model, config)
        self._twin = twin if self.model is model else deployed(twin)
        self.deployed = deployed(twin)
        # gradients come in several messages: where one is lost, weights before it have changed and those behind it not
        self._changing = [*self.model.weights, *self._average, *self._optimizer.variables]
        self._copies = tf.function(lambda: [tf.identity(variable) for variable in self._changing], autograph=False)
        self._before: Sequence[Any] = ()

    def step(self, batch: Batch, learning_rate: float, count: int) -> dict[str, float]:
        self._before = self._copies()
        self._is_within_step = True
        terms = super().step(batch, learning_rate, count)
        self._is_within_step = False
        return terms

    def roll_back(self) -> None:
        """After a step that failed: all is as before it."""
        if self._is_within_step:
            for variable, value in zip(self._changing, self._before, strict=True):
                variable.assign(value)
            self._is_within_step = False

    def swap(self) -> None:
        """Gives the twin the averaged weights; the second call changes nothing more."""
        source = self._average if self._decay else self.model.weights
        self._twin.set_weights([variable.numpy() for variable in source])

    def _begin_average(self) -> list[Any]:
        with _own_copies():
            return super()._begin_average()

    def _trace(self) -> Step:
        step, strategy = self._make_step(), self._strategy

        def all_replicas(tensors: Mapping[str, Any], decay: Any) -> Mapping[str, Any]:
            terms = strategy.run(step, args=(tensors, decay))
            # summed: each replica has the same
            return {name: strategy.experimental_local_results(value)[0] for name, value in terms.items()}

        return tf.function(all_replicas, autograph=False)

    def _tensors(self, batch: Batch) -> dict[str, Any]:
        strategy = self._strategy
        count = len(strategy.extended.worker_devices) if strategy.num_replicas_in_sync > 1 else 1
        if count == 1:
            return super()._tensors(batch)
        parts = [
            super(Replicated, self)._tensors(_part(batch, Share(index, index + 1, count))) for index in range(count)
        ]

        def of(context: Any) -> dict[str, Any]:
            return parts[context.replica_id_in_sync_group % count]

        return strategy.experimental_distribute_values_from_function(of)


def _part(batch: Batch, share: Share) -> Batch:
    indices = share.indices(len(batch.images))
    window = slice(indices.start, indices.stop)
    parts: dict[str, Any] = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return dataclasses.replace(batch, **{name: v[window] for name, v in parts.items() if v is not None})


@contextmanager
def _own_copies() -> Iterator[None]:
    """Variables that are not trained (statistics, ranges, averages): each replica writes its own, all write the same.

    A strategy would else average them over the replicas at each write or read, in steps that only wait.
    """

    def create(next_creator: Callable[..., Any], **settings: Any) -> Any:
        if settings.get("trainable") is False:
            settings["synchronization"] = tf.VariableSynchronization.ON_READ
            settings["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return next_creator(**settings)

    with tf.variable_creator_scope(create):
        yield


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[name])
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
