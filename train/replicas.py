"""What the replicas of a training share: sums over the whole batch, and batch norm whose statistics are of all of it.

A replica is one device that trains on its share of each batch: a GPU of several, or the processor of one of several
machines. TensorFlow's strategies run them; here is what makes them compute what one device would. Alone, every function
returns what it is given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from portraitseg.models.keras_route import keras, tf


def _context() -> Any:
    """Of the replica that is being traced, where there are several; else None."""
    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context


def over_replicas(shares: Any) -> Any:
    """Sums tensors (or a list of them) over all replicas; gradients are summed alike."""
    context = _context()
    return shares if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, shares)


def add_up(gradients: Sequence[Any], terms: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Sums gradients and losses over all replicas; what is made of one of them waits for all.

    So that a step in which a replica fails has changed no weight: whatever can fail comes before.
    """
    if _context() is None:
        return gradients, terms
    *gradients, values = over_replicas([*gradients, tf.stack(list(terms.values()))])
    with tf.control_dependencies([*gradients, values]):
        return [tf.identity(gradient) for gradient in gradients], dict(zip(terms, tf.unstack(values), strict=True))


def replica() -> Any:
    """The number of this replica, from 0."""
    context = _context()
    return 0 if context is None else context.replica_id_in_sync_group


def gather(values: Any) -> Any:
    """Stacks a tensor of one shape from all replicas, in their order: (…) → (replicas, …). No gradient.

    By a sum in which each has a row of its own: exact, and the only thing that every kind of strategy can do.
    """
    context = _context()
    values = tf.stop_gradient(values)[None]
    if context is None:
        return values
    row = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=values.dtype)
    return over_replicas(tf.reshape(row, [-1] + [1] * (len(values.shape) - 1)) * values)


class SynchronizedBatchNorm(keras.layers.BatchNormalization):
    """Batch norm over the last axis whose statistics are of all replicas' photos.

    Not Keras's own `synchronized=True`: that stands in the saved network, takes the variance as a difference of two
    squares, and its moving variance lacks the factor n / (n - 1) of the kernel that one device uses.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        x = tf.cast(inputs, tf.float32)
        # sums of what is near 0, for the difference of squares to be exact
        around = x - tf.stop_gradient(self.moving_mean)
        count = tf.cast(tf.size(x) / x.shape[-1], tf.float32)
        sums = over_replicas(
            tf.concat(
                [tf.reduce_sum(around, [0, 1, 2]), tf.reduce_sum(tf.square(around), [0, 1, 2]), count[None]], axis=0
            )
        )
        channels = x.shape[-1]
        count = tf.stop_gradient(sums[-1])
        shift = sums[:channels] / count
        mean = self.moving_mean + shift
        variance = tf.maximum(sums[channels:-1] / count - tf.square(shift), 0.0)
        outputs = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        unbiased = variance * count / (count - 1)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            moving.assign_sub((1 - self.momentum) * (moving - value))
        return tf.cast(outputs, inputs.dtype)


def synchronize(model: Any) -> None:
    """Makes the batch norms of a model, QAT's wrapped ones too, `SynchronizedBatchNorm`; its weights stay theirs."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if type(inner) is keras.layers.BatchNormalization:
            assert list(inner.axis) == [3], f"{inner.name}: statistics are taken over the last axis"
            inner.__class__ = SynchronizedBatchNorm
