"""Before quantization-aware training: which layers would be refused, which would stay float, and what to write."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from export import qat
from export.flatbuffer import keras_layer
from export.recipes import RECIPES
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.tflite_graph import Graph, Op, parse_graph

#: Layers behind which TFMOT takes a batch norm into the operator.
_BEFORE_BATCH_NORM = frozenset({"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose", "Dense"})

#: What TFMOT splits or folds without listing it in its registry.
_FOLDED = frozenset({"InputLayer", "BatchNormalization", "SeparableConv2D"})

#: The converter moves data between float and integer with these: what they stand for is the operator beside them.
_CASTS = frozenset({"QUANTIZE", "DEQUANTIZE"})

_OTHER_REMEDY = "rewrite it with other layers"

Fate = Literal["refused", "float", "rewritten"]


@dataclass(frozen=True)
class Finding:
    """One layer that will not simply become one int8 operator.

    Attributes:
        layer, kind: its name and class.
        fate: `refused` by TFMOT; `float` in the file; `rewritten` by us, the function kept.
        why: in words.
        remedy: what to write instead, or what was done.
    """

    layer: str
    kind: str
    fate: Fate
    why: str
    remedy: str


def check_model(float_model: Any) -> list[Finding]:
    """Looks at every layer, then quantizes and converts the network, untrained, to see what stays float.

    The conversion is tried only where nothing is refused; with a fresh network of 256×256 it takes some ten seconds.

    Args:
        float_model: functional Keras model, inputs (n, h, w, c) in [0, 1]; left as it is.
    """
    findings = [finding for layer in float_model.layers if (finding := _look_at(layer)) is not None]
    if any(finding.fate == "refused" for finding in findings):
        return findings
    try:
        quantized = qat.quantize(float_model)
    except InputError as error:
        # a pattern of layers that the look at single ones did not foresee
        return [*findings, _from_refusal(str(error))]
    size = float_model.input_shape[1:]
    photos = np.random.default_rng(0).random((2, *size), np.float32)
    qat.calibrate(quantized, float_model, photos)
    content = RECIPES["qat_wi8_ai8"].convert(quantized, photos[..., :3])
    known = {finding.layer for finding in findings if finding.fate == "float"}
    kinds = {layer.name: type(layer).__name__ for layer in float_model.layers}
    floats = [found for found in _left_float(parse_graph(content, float_model.name), kinds) if found.layer not in known]
    return [*findings, *floats]


def _look_at(layer: Any) -> Finding | None:
    kind = type(layer).__name__
    remedy = qat.REMEDIES.get(kind, _OTHER_REMEDY)
    if hasattr(layer, "layers"):
        return Finding(
            layer.name, kind, "refused", "a model inside the model", "call its layers in the one functional model"
        )
    if kind in checkpoint.EXECUTABLE_LAYERS:
        return Finding(layer.name, kind, "refused", "code of its own, which nobody can quantize", remedy)
    if qat.is_output_only(layer):
        done = "its output alone is quantized; the function stays"
        return Finding(layer.name, kind, "rewritten", "TFMOT has no configuration for it", done)
    if kind == "BatchNormalization":
        return _look_at_batch_norm(layer, remedy)
    if kind not in _FOLDED and not _is_known(layer):
        return Finding(layer.name, kind, "refused", "TFMOT has no configuration for it", remedy)
    return None


def _look_at_batch_norm(layer: Any, remedy: str) -> Finding | None:
    before = layer.inbound_nodes[0].inbound_layers
    kind = type(layer).__name__
    if type(before).__name__ not in _BEFORE_BATCH_NORM:
        why = f"behind '{getattr(before, 'name', 'several layers')}' ({type(before).__name__}), not a convolution"
        return Finding(layer.name, kind, "refused", why, remedy)
    if type(before).__name__ == "Conv2DTranspose":
        why = "TRANSPOSE_CONV with a batch norm stays float, and the classic GPU delegate refuses its version"
        return Finding(before.name, "Conv2DTranspose", "float", why, qat.REMEDIES["Conv2DTranspose"])
    return None


def _is_known(layer: Any) -> bool:
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

    return bool(default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer))


def _from_refusal(message: str) -> Finding:
    """A refusal of `qat.quantize`, which names layer, class and remedy."""
    found = re.search(r"layer '(.+)' \((\w+)\) cannot be quantized: (.+)", message)
    name, kind, remedy = found.groups() if found else ("?", "?", message)
    return Finding(name, kind, "refused", "TFMOT has no configuration for it where it stands", remedy)


def _left_float(graph: Graph, kinds: dict[str, str]) -> Iterator[Finding]:
    """One finding for each layer with an operator that computes in float."""
    by_layer: dict[str, list[Op]] = {}
    for op in graph.ops:
        if op.name not in _CASTS and any(tensor.dtype == "FLOAT32" for tensor in op.outputs):
            by_layer.setdefault(keras_layer(op.outputs[0].name), []).append(op)
    for layer, ops in by_layer.items():
        kind = kinds.get(layer, "?")
        names = ", ".join(dict.fromkeys(op.name for op in ops))
        yield Finding(layer, kind, "float", f"{names} computes in float32", qat.REMEDIES.get(kind, _OTHER_REMEDY))


def report(float_model: Any) -> None:
    """Prints what `check_model` finds.

    Raises:
        CheckFailed: a layer that would be refused or left float.
    """
    from rich.console import Console
    from rich.table import Table

    from portraitseg.cli import say

    findings = check_model(float_model)
    if findings:
        table = Table("layer", "class", "fate", "why", "rewrite")
        for found in findings:
            table.add_row(found.layer, found.kind, found.fate, found.why, found.remedy)
        Console(highlight=False).print(table)
    bad = [found for found in findings if found.fate != "rewritten"]
    if bad:
        raise CheckFailed(f"{float_model.name}: {len(bad)} of {len(float_model.layers)} layers cannot become int8")
    done = f", {len(findings)} by a rewrite that keeps the function" if findings else ""
    say(f"{float_model.name}: all {len(float_model.layers)} layers become int8{done}; the batch is fixed to 1")
