"""A post-training file that is int8 but for the few layers that lose most by it: where that pays, it is published."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import flatbuffer, to_tflite
from export.gpu import rules
from export.metadata import attach
from export.product import Networks, Product, describe_with_runner
from export.quiet import quiet
from export.recipes import RECIPES, Calibration, calibrated_content, input_name
from export.sensitivity import Row
from portraitseg.errors import InputError
from portraitseg.tflite_graph import Graph, multiply_accumulates, parse_graph, read_graph

#: Name of the recipe, in the files' names and in the manifest.
RECIPE = "mixed_wi8_ai8"

#: Beside what it is judged.
WITHOUT = "static_wi8_ai8"

#: What a layer must lose, dB, to be spared: half of its signal-to-noise ratio.
LEAST_LOSS_DB = 3.0

_CASTS = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class Cost:
    """What a file is cut into.

    Attributes:
        ops: operators.
        casts: those that only move values between float and integers.
        float_ops: those that compute in float.
        float_macs: share of multiply-accumulates that is done in float.
        cpu_parts: groups of operators that XNNPACK takes.
        gpu: delegate → share of multiply-accumulates that goes to the GPU, by the rules.
    """

    ops: int
    casts: int
    float_ops: int
    float_macs: float
    cpu_parts: int
    gpu: dict[str, float]


def worst_layers(rows: Sequence[Row], count: int) -> tuple[str, ...]:
    """The layers in which most is lost, the worst first; none that loses less than `LEAST_LOSS_DB`."""
    losing = [row for row in rows if row.added_db >= LEAST_LOSS_DB]
    return tuple(row.layer for row in sorted(losing, key=lambda row: -row.added_db)[:count])


def convert(model: Any, calibration: Calibration, spared: Collection[str]) -> bytes:
    """Post-training int8, input and output float, but for the layers that are spared: float32 between two casts.

    The converter's own list of what not to quantize (that of TFLite's quantization debugger): no training, and any
    layer may be on it. TFMOT's annotations would ask for a training for each choice, and break the patterns of
    convolution, batch norm and ReLU that it makes one operator of.

    Args:
        model: float Keras model.
        calibration: photos in [0, 1].
        spared: names of Keras layers, as `sensitivity` names them.

    Raises:
        InputError: a layer that is no operator of the file.
    """
    from tensorflow.lite.python import convert as converter

    # the names that every file of ours has, and so those of `sensitivity`
    content = flatbuffer.rename_io(calibrated_content(model, calibration), input_name(calibration), "mask")
    operators = [(op, flatbuffer.keras_layer(op.outputs[0].name)) for op in parse_graph(content, model.name).ops]
    known = dict.fromkeys(layer for _, layer in operators)
    if unknown := [layer for layer in spared if layer not in known]:
        raise InputError(f"layer '{unknown[0]}': no operator of '{model.name}' (there are: {', '.join(known)})")
    names = [op.outputs[0].name for op, layer in operators if layer in spared]
    with quiet():
        content = converter.mlir_quantize(content, denylisted_nodes=names)
    return flatbuffer.rename_io(content, input_name(calibration), "mask")


def cost_of(path: Path) -> Cost:
    """What the operators of a file cost in changes between float and integers, and between processors."""
    graph = read_graph(path)
    macs = {op.index: multiply_accumulates(op) for op in graph.ops}
    floats = [op for op in graph.ops if op.name not in _CASTS and op.outputs[0].dtype == "FLOAT32"]
    return Cost(
        ops=len(graph.ops),
        casts=sum(op.name in _CASTS for op in graph.ops),
        float_ops=len(floats),
        float_macs=sum(macs[op.index] for op in floats) / max(sum(macs.values()), 1),
        cpu_parts=_xnnpack_parts(path),
        gpu={delegate: _gpu_share(graph, delegate) for delegate in rules.DELEGATES},
    )


def product(networks: Networks, spared: Collection[str]) -> Product:
    """The mixed file as a target's product."""
    card = to_tflite.card_of(networks, RECIPE, "float")

    def write(path: Path) -> None:
        path.write_bytes(attach(convert(networks.float_model, networks.calibration, spared), card))

    return Product(
        path=to_tflite.file_name(networks, networks.channels, RECIPE),
        channels=networks.channels,
        recipe=RECIPE,
        write=write,
        describe=describe_with_runner,
        reference="float",
        bound=RECIPES[WITHOUT].bound,
        note=f"float layers: {', '.join(spared)}",
    )


def _xnnpack_parts(path: Path) -> int:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def _gpu_share(graph: Graph, delegate: rules.Delegate) -> float:
    part = rules.judge(graph, delegate).partition
    return part.delegated_macs / max(part.macs, 1)
