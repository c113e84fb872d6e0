"""Before quantization-aware training: which layers would be refused, which would stay float, and what to write."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from export.product.quiet import quiet
from export.quantization import equal_shapes, hard_swish, means, qat
from export.quantization.recipes import RECIPES
from portraitseg import models
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint, merges
from portraitseg.tflite.flatbuffer import keras_layer
from portraitseg.tflite.graph import Graph, Op, parse_graph

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
        fate: `refused` by TFMOT; `float` in the file; `rewritten` by us, the function kept unless `why` says otherwise.
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
    findings = _look_at_all(float_model)
    if any(finding.fate == "refused" for finding in findings):
        return findings
    findings += _rewritten_groups(float_model)
    try:
        graph = convert_untrained(float_model)
    except InputError as error:
        # a pattern of layers that the look at single ones did not foresee
        return [*findings, _from_refusal(str(error))]
    known = {finding.layer for finding in findings if finding.fate == "float"}
    kinds = {layer.name: type(layer).__name__ for layer in float_model.layers}
    return [*findings, *(left for left in _left_float(graph, kinds) if left.layer not in known)]


def convert_untrained(float_model: Any) -> Graph:
    """The graph of the file that quantization-aware training would lead to, its ranges those of noise.

    Raises:
        InputError: a layer that TFMOT refuses.
    """
    quantized = qat.quantize(float_model)
    photos = np.random.default_rng(0).random((2, *float_model.input_shape[1:]), np.float32)
    qat.calibrate(quantized, float_model, photos)
    return parse_graph(RECIPES["qat_wi8_ai8"].convert(quantized, photos[..., :3]), float_model.name)


def rewritten(float_model: Any) -> list[Finding]:
    """The layers that `qat.quantize` takes in another form than they have, the function kept."""
    findings = [finding for finding in _look_at_all(float_model) if finding.fate == "rewritten"]
    return [*findings, *_rewritten_groups(float_model)]


def _look_at_all(float_model: Any) -> list[Finding]:
    """What there is to say of each layer for itself."""
    # the product is what is left of an h-swish, with layers that TFMOT would refuse alone
    done = {name for one in hard_swish.find(float_model) for name in (one.total, one.clamp, one.sixth)}
    findings = (_look_at(layer) for layer in float_model.layers if layer.name not in done)
    return [finding for finding in findings if finding is not None]


def _rewritten_groups(float_model: Any) -> list[Finding]:
    """What is written otherwise for what stands before or behind it, not for itself."""
    return [*_unequal(float_model), *_pooled(float_model), *_hard_swishes(float_model)]


def _unequal(float_model: Any) -> list[Finding]:
    """Layers of two tensors of unequal shapes, which are written so that GPUs compute them."""
    why = "the classic GPU delegate refuses these shapes, or computes them wrong"
    return [
        Finding(one.layer, one.kind, "rewritten", f"{why}: {_shapes(one.shapes)}", one.done)
        for one in equal_shapes.find(float_model)
    ]


def _pooled(float_model: Any) -> list[Finding]:
    """Average pools before a mean over the image, which are written so that XNNPACK takes them."""
    why = "XNNPACK has no average pooling in 8 bits; before a mean over the image the same mean is had without it"
    done = "pixels are counted as channels (Reshape), averaged, and averaged again"
    return [
        Finding(name, type(layer).__name__, "rewritten", why, done) for name, layer in means.find(float_model).items()
    ]


def _hard_swishes(float_model: Any) -> list[Finding]:
    why = "XNNPACK has no h-swish in 8 bits"
    done = "a sum and a product with the same result; the layer before is divided by √6"
    return [Finding(one.product, "Multiply", "rewritten", why, done) for one in hard_swish.find(float_model)]


def _shapes(shapes: tuple[tuple[int, int, int], ...]) -> str:
    return " with ".join("×".join(map(str, shape)) for shape in shapes)


def _look_at(layer: Any) -> Finding | None:
    kind = type(layer).__name__
    remedy = qat.REMEDIES.get(kind, _OTHER_REMEDY)
    if hasattr(layer, "layers"):
        return Finding(
            layer.name, kind, "refused", "a model inside the model", "call its layers in the one functional model"
        )
    if (merged := merges.merge_layer(layer)) is not None:
        done = f"layers.{merged} computes the same of the two tensors"
        return Finding(layer.name, kind, "rewritten", "code of its own, which nobody can quantize", done)
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
    match = re.search(r"layer '(.+)' \((\w+)\) cannot be quantized: (.+)", message)
    name, kind, remedy = match.groups() if match else ("?", "?", message)
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


def report(float_model: Any, origin: str = "") -> None:
    """Prints what `check_model` finds.

    Args:
        float_model: as of `check_model`.
        origin: the file that it came from, said before its name; empty where there is none.

    Raises:
        CheckFailed: a layer that would be refused or left float.
    """
    from rich.console import Console
    from rich.table import Table

    from portraitseg.cli import say

    findings = check_model(float_model)
    subject = f"{origin}: {float_model.name}" if origin else float_model.name
    if findings:
        table = Table("layer", "class", "fate", "why", "rewrite")
        for finding in findings:
            table.add_row(finding.layer, finding.kind, finding.fate, finding.why, finding.remedy)
        Console(highlight=False).print(table)
    bad = [finding for finding in findings if finding.fate != "rewritten"]
    if bad:
        raise CheckFailed(f"{subject}: {len(bad)} of {len(float_model.layers)} layers cannot become int8")
    done = f", {len(findings)} by a rewrite that keeps the function" if findings else ""
    say(f"{subject}: all {len(float_model.layers)} layers become int8{done}; the batch is fixed to 1")


def survey(names: Sequence[str], size: tuple[int, int]) -> None:
    """Prints a Markdown table: what becomes of each network, and of how many operators its integer file is made.

    Raises:
        CheckFailed: one with a layer that would be refused or left float.
    """
    print("| network | layers | rewritten | refused or float | operators | of them float |", flush=True)
    print("|---|--:|---|---|--:|--:|", flush=True)
    failed = []
    for name in names:
        with quiet():
            network = models.as_written(name, size)
            findings = _look_at_all(network)
            bad = [finding for finding in findings if finding.fate != "rewritten"]
            try:
                graph = None if bad else convert_untrained(network)
            except InputError as error:
                bad, graph = [_from_refusal(str(error))], None
        kinds = {layer.name: type(layer).__name__ for layer in network.layers}
        floats = [] if graph is None else list(_left_float(graph, kinds))
        done = Counter(finding.kind for finding in findings if finding.fate == "rewritten")
        cells = [
            name,
            str(len(network.layers)),
            ", ".join(f"{count} {kind}" for kind, count in done.items()) or "none",
            ", ".join(f"{finding.layer} ({finding.kind})" for finding in (*bad, *floats)) or "none",
            "–" if graph is None else str(len(graph.ops)),
            "–" if graph is None else str(len(floats)),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        failed += [name] if bad or floats else []
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(names)} networks cannot become int8: {', '.join(failed)}")
