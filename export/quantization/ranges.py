"""Ranges of activations where several replicas train: what all of them see moves them, as one batch would."""

from collections.abc import Callable
from typing import Any


def share_ranges(qat_model: Any, gather: Callable[[Any], Any]) -> None:
    """Lets the observers of a QAT network see the least and greatest value of all replicas; before it is traced.

    Ranges of kernels follow from the weights, which all replicas have.

    Args:
        qat_model: of `qat.quantize`; changed in place.
        gather: stacks a tensor from all replicas (`train.replicas.gather`).
    """
    for layer in qat_model.layers:
        if quantizers := getattr(layer, "_output_quantizers", None):
            layer._output_quantizers = [_shared(quantizer, gather) for quantizer in quantizers]
        for activation in getattr(layer, "_quantize_activations", ()):
            activation.quantizer = _shared(activation.quantizer, gather)


def _shared(quantizer: Any, gather: Callable[[Any], Any]) -> Any:
    """TFMOT's `MovingAverageQuantizer` of a whole tensor, its batch that of all replicas; others stay as they are."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    if not isinstance(quantizer, quantizers.MovingAverageQuantizer):
        return quantizer
    is_whole = not (quantizer.per_axis or quantizer.symmetric)
    assert is_whole, "TFMOT's 8-bit scheme observes whole tensors"

    def quantize(inputs: Any, training: Any, weights: Any) -> Any:
        if training:
            least, greatest = tf.unstack(gather(tf.stack([tf.reduce_min(inputs), tf.reduce_max(inputs)])), axis=1)
            seen = {
                "min_var": tf.minimum(tf.reduce_min(least), 0.0),
                "max_var": tf.maximum(tf.reduce_max(greatest), 0.0),
            }
            for name, value in seen.items():
                # TFMOT's decay, as its `MovingAvgQuantize` has it
                weights[name].assign_sub((weights[name] - value) * _SHARE_OF_A_STEP)
        return quantizer(inputs, False, weights=weights)

    return quantize


#: 1 - `ema_decay` of TFMOT's quantizer.
_SHARE_OF_A_STEP = 1 - 0.999
