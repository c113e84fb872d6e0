"""Networks for quantization-aware training: TFMOT's 8-bit scheme, with the input fixed to [0, 1]."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from export.quantization import equal_shapes, hard_swish, means
from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint, surgery
from portraitseg.models.keras_route import tf

#: What to write instead of a layer that TFMOT refuses, by class.
REMEDIES = {
    "PReLU": "use layers.ReLU(6.0)",
    "Rescaling": "fold it into the first convolution",
    "Resizing": "use blocks.upsample (UpSampling2D), or resize without crop_to_aspect_ratio, bilinear or nearest",
    "BatchNormalization": "put it right behind a convolution",
    "Lambda": "write it with Keras layers",
    "TFOpLambda": "write it with a Keras layer, or fold a constant into a convolution",
    "SlicingOpLambda": "use layers.Cropping2D",
    "Conv2DTranspose": "use blocks.upsample and a convolution",
}

#: Layers that TFMOT does not know, but whose one TFLite operator has an int8 kernel: their output alone is observed.
#: The function stays what it was.
OUTPUT_ONLY = frozenset({"Multiply", "Subtract", "Maximum", "Minimum", "Resizing"})

#: Variables that TFMOT quantizes, and the outputs that it observes: a layer's own, or that of the activation inside a
#: convolution without batch norm.
_KERNELS = frozenset({"kernel", "depthwise_kernel"})
_ACTIVATIONS = ("output", "post_activation")

#: Beyond it a sigmoid's 8 bits are 0 or 255, half a step from the ends. Steps there would tell nothing apart, and where
#: logits reach ±30 a step of them is 0.2: MediaPipe's, divided by 20 as we import them, have outlines within ±0.1.
_LOGIT = math.log(511.0)

#: Layers that only move numbers; and those that a factor of all numbers passes through.
_MOVES = frozenset({"Concatenate", "Reshape"})
_LINEAR = _MOVES | {"Cropping2D", "UpSampling2D"}

#: Photos per call while ranges are measured.
_BATCH = 16

#: Values of an activation that are sorted for a percentile, and the step between them around all: a prime.
_SORTED = 200_000
_STEP = 104_729


def quantize(float_model: Any) -> Any:
    """Makes the network that is trained under fake quantization, with the weights of the float one.

    Args:
        float_model: functional Keras model, inputs (n, h, w, c) float32 in [0, 1]. `x + y` on tensors in it is written
            with a layer, layers of unequal shapes so that GPUs compute them (`equal_shapes`), means over large maps and
            h-swish so that XNNPACK does (`means`, `hard_swish`).

    Returns:
        A Keras model of the same name, its layers named `quant_…`; inputs are quantized with scale 1/255 and zero point
        -128, always. Its other ranges are TFMOT's [-6, 6] until `calibrate`; those of clamps are the clamps'.

    Raises:
        InputError: a layer that TFMOT refuses, with its name, class and a remedy.
    """
    import tensorflow_model_optimization as tfmot

    from export.quantization._fixed_range import FixedOutput, FixedRangeQuantizer
    from export.quantization._layout import Scheme

    float_model = _rewritten(float_model)
    for layer in float_model.layers:
        kind = type(layer).__name__
        if hasattr(layer, "layers"):
            raise InputError(_refusal(layer.name, kind, "call its layers in the one functional model"))
        # TFMOT fails on these while it clones the network, with an error that names no layer
        if kind in checkpoint.EXECUTABLE_LAYERS:
            raise InputError(_refusal(layer.name, kind, REMEDIES[kind]))
    try:
        with tfmot.quantization.keras.quantize_scope({one.__name__: one for one in (FixedOutput, FixedRangeQuantizer)}):
            # AutoGraph would read the source of each wrapper: a third of the time, for branches that are Python's
            apply = tf.autograph.experimental.do_not_convert(tfmot.quantization.keras.quantize_apply)
            model = apply(_annotate(float_model), Scheme())
    except (RuntimeError, ValueError) as error:
        # TFMOT: "Layer act:<class 'tf_keras.src.layers…PReLU'> is not supported. You can quantize this layer by …"
        match = re.search(r"Layer (\S+?):<class '(?:\S+\.)?(\w+)'> is not supported", str(error))
        if not match:
            raise InputError(f"QAT: TFMOT refuses '{float_model.name}': {str(error).splitlines()[0]}") from error
        name, kind = match.groups()
        raise InputError(_refusal(name, kind, REMEDIES.get(kind, "rewrite it with other layers"))) from error
    _fix_input_range(model)
    _disown_wrapped_weights(model)
    return model


def _rewritten(float_model: Any) -> Any:
    """The same function, of layers that quantize well; the weights before an h-swish are divided (`hard_swish`)."""
    return hard_swish.rewrite(means.rewrite(equal_shapes.rewrite(float_model)))


def is_output_only(layer: Any) -> bool:
    """Whether a layer that TFMOT refuses is quantized all the same, by its output."""
    kind = type(layer).__name__
    if kind == "Resizing":
        return layer.interpolation in ("bilinear", "nearest") and not layer.crop_to_aspect_ratio
    return kind in OUTPUT_ONLY


def _annotate(float_model: Any) -> Any:
    """What TFMOT's `quantize_annotate_model` makes, with a configuration for the layers that it does not know."""
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_configs

    from export.quantization._fixed_range import FixedOutput
    from portraitseg.models.keras_route import keras

    output_only = default_8bit_quantize_configs.Default8BitOutputQuantizeConfig
    nothing = default_8bit_quantize_configs.NoOpQuantizeConfig
    clamps = hard_swish.clamps(float_model)

    def annotate(layer: Any) -> Any:
        config = output_only() if is_output_only(layer) else None
        if layer.name in clamps.values():
            config = nothing()
        elif layer.name in clamps:
            # 8 bits over the clamp's range clamp, so that no operator is left of it
            config = FixedOutput(0.0, hard_swish.DIVISOR)
            layer = keras.layers.Activation("linear", name=layer.name)
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    return keras.models.clone_model(float_model, clone_function=annotate)


def calibrate(
    qat_model: Any, float_model: Any, inputs: Float32[np.ndarray, "n h w c"], percentile: float | None = None
) -> None:
    """Sets the range of every kernel to its values, and of every activation to what the float network shows on photos.

    TFMOT starts each range at [-6, 6] and moves those of activations by a thousandth a step, so that a short training
    would end with most of the 256 steps unused. An activation's range is the mean over batches of its least and
    greatest value, as in TFMOT's own average; or, without outliers, of two percentiles of its values (Wu et al. 2020,
    arXiv:2004.09602): where nothing bounds activations, a few of them stretch the range to several times what all
    others need.

    Args:
        qat_model: of `quantize(float_model)`; changed in place.
        float_model: the float network.
        inputs: photos by the contract, in [0, 1].
        percentile: in (50, 100), of the upper end; the lower end is at 100 less it. What a sigmoid's 8 bits cannot tell
            apart is left out of the range of logits too. None: all values.
    """
    float_model = _rewritten(float_model)
    clamps = hard_swish.clamps(float_model)
    measured = {layer.name for layer in float_model.layers} - clamps.keys()
    logits = _before_sigmoid(float_model, _MOVES)
    observed: dict[str, Any] = {}
    for layer in qat_model.layers:
        variables = {variable.name.rpartition("/")[2].removesuffix(":0"): variable for variable in layer.weights}
        for which in _KERNELS & variables.keys():
            _set_kernel_range(variables[which], variables[f"{which}_min"], variables[f"{which}_max"])
        name = layer.name.removeprefix("quant_")
        for which in _ACTIVATIONS:
            if name in measured and f"{which}_min" in variables:
                observed[name] = (variables[f"{which}_min"], variables[f"{which}_max"])
    ranges = _activation_ranges(float_model, list(observed), inputs, percentile)
    for (name, (low, high)), values in zip(observed.items(), ranges, strict=True):
        # zero must be exact: padding and ReLU make it
        bound = _LOGIT if name in logits and percentile is not None else np.inf
        low.assign(max(min(values[0], 0.0), -bound))
        high.assign(min(max(values[1], 0.0), bound))


def sharpened(float_model: Any, factor: float) -> Any:
    """The same network with its logits multiplied; itself where the factor is 1.

    Its mask at 0.5 is the same. Where logits of an outline are small, as MediaPipe's, neither 8 bits nor a loss on
    probabilities sees on which side of it a pixel is.

    Raises:
        InputError: no convolution makes the logits.
    """
    if factor == 1.0:
        return float_model
    model = surgery.rebuild(float_model, float_model.get_config())
    convolutions = [
        layer for name in sorted(_before_sigmoid(model, _LINEAR)) if (layer := model.get_layer(name)).weights
    ]
    if not convolutions or any(layer.activation.__name__ != "linear" for layer in convolutions):
        raise InputError(f"qat.sharpen: '{model.name}' has no convolution whose outputs are its logits: leave it at 1")
    for layer in convolutions:
        layer.set_weights([weight * np.float32(factor) for weight in layer.get_weights()])
    return model


def _before_sigmoid(float_model: Any, through: frozenset[str]) -> set[str]:
    """The layers whose numbers go into the mask's sigmoid alone, directly or through layers of these classes."""
    mask = float_model.layers[-1]
    if type(mask).__name__ != "Activation" or mask.activation.__name__ != "sigmoid":
        return set()
    found: set[str] = set()
    waiting = [mask]
    while waiting:
        for layer in tf.nest.flatten(waiting.pop().inbound_nodes[0].inbound_layers):
            if len(layer.outbound_nodes) == 1:
                found.add(layer.name)
                waiting += [layer] if type(layer).__name__ in through else []
    return found


def freeze_ranges(qat_model: Any) -> list[Any]:
    """Keeps the ranges of activations as they are from here on; a training step is to be traced anew.

    The weights then settle on the very steps that the file will have (Krishnamoorthi 2018, arXiv:1806.08342).
    Ranges of kernels are no observation: they go on being the kernel's greatest weight, else a weight that grows would
    be cut.

    Returns:
        The variables that training no longer moves.
    """
    frozen: list[Any] = []
    for layer in qat_model.layers:
        if getattr(layer, "_output_quantizers", None):
            layer._output_quantizers = [_frozen(quantizer) for quantizer in layer._output_quantizers]
            frozen += layer._output_quantizer_vars.values()
        for activation in getattr(layer, "_quantize_activations", ()):
            activation.quantizer = _frozen(activation.quantizer)
            for attribute in ("_pre_activation_vars", "_post_activation_vars"):
                frozen += getattr(activation, attribute, {}).values()
    return frozen


def load_qat(path: Path) -> Any:
    """Rebuilds the QAT network of an h5 from our registry and loads its weights; nothing in the file is executed.

    Raises:
        InputError: missing, damaged, of an unknown network, or the h5 of a float network.
    """
    header = checkpoint.read_header(path)
    if not header.is_quantized:
        raise InputError(f"checkpoint {path}: a float network: expected the h5 of quantization-aware training")
    model = quantize(models.build(header.name, header.size))
    try:
        checkpoint.load_weights(model, path)
    except InputError as error:
        raise InputError(
            f"{error}; if an earlier version made it, delete the run's qat/ and export again: it is trained anew"
        ) from error
    return model


def _frozen(quantizer: Any) -> Any:
    def quantize_as_at_inference(inputs: Any, training: Any, weights: Any) -> Any:
        del training
        return quantizer(inputs, False, weights=weights)

    return quantize_as_at_inference


def _refusal(name: str, kind: str, remedy: str) -> str:
    return f"QAT: layer '{name}' ({kind}) cannot be quantized: {remedy}"


def _fix_input_range(model: Any) -> None:
    from export.quantization._fixed_range import FixedRangeQuantizer

    layer = model.layers[1]
    assert type(layer).__name__ == "QuantizeLayer", f"TFMOT put {type(layer).__name__} behind the input"
    # a Keras layer looks its quantizer up at each call, so the fixed one is what every later trace and call uses
    layer.quantizer = FixedRangeQuantizer(0.0, 1.0)
    for name, value in (("min_var", 0.0), ("max_var", 1.0)):
        layer.quantizer_vars[name].assign(value)


def _set_kernel_range(kernel: Any, low: Any, high: Any) -> None:
    """Symmetric; per channel of the last axis where the observer has a range for each, else of the whole kernel."""
    magnitude = np.abs(kernel.numpy())
    greatest = magnitude.max(axis=tuple(range(magnitude.ndim - 1))) if low.shape.rank else magnitude.max()
    low.assign(-greatest)
    high.assign(greatest)


def _disown_wrapped_weights(model: Any) -> None:
    """Lets the batch norms of a QAT network be frozen.

    QuantizeWrapperV2 lists the trainable weights of its layer as its own too; once the layer is frozen they stand there
    twice, and saving an h5 fails with "name already exists". The order of the weights stays as it is.
    """
    for wrapper in model.layers:
        if hasattr(wrapper, "layer") and type(wrapper.layer).__name__ == "BatchNormalization":
            inner = {id(weight) for weight in wrapper.layer.weights}
            wrapper._trainable_weights = [weight for weight in wrapper._trainable_weights if id(weight) not in inner]


def _activation_ranges(
    float_model: Any, names: list[str], inputs: Float32[np.ndarray, "n h w c"], percentile: float | None
) -> Float32[np.ndarray, "layers 2"]:
    from portraitseg.models.keras_route import keras

    probe = keras.Model(float_model.input, [float_model.get_layer(name).output for name in names])

    def ends(y: Any) -> Any:
        if percentile is None:
            return tf.stack([tf.reduce_min(y), tf.reduce_max(y)])
        values = tf.sort(_evenly(tf.reshape(y, [-1])))
        last = tf.cast(tf.shape(values)[0] - 1, tf.float32)
        return tf.gather(
            values, [tf.cast(tf.round(last * share / 100), tf.int32) for share in (100 - percentile, percentile)]
        )

    @tf.function(reduce_retracing=True, autograph=False)
    def ranges(batch: Any) -> Any:
        # a network of one output gives it, not a list
        return tf.stack([ends(y) for y in tf.nest.flatten(probe(batch, training=False))])

    batches = [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]
    return np.mean([ranges(tf.constant(batch)).numpy() for batch in batches], axis=0)


def _evenly(values: Any) -> Any:
    """At most `_SORTED` of them; a prime step, so that no channel is left out."""
    count = tf.size(values)
    picked = tf.range(tf.minimum(count, _SORTED), dtype=tf.int64) * _STEP % tf.cast(count, tf.int64)
    return tf.gather(values, picked)
