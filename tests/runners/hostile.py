"""Files that take TFLite's runtime down, or that it never comes back from; photo in, mask out, as a good one has."""

from collections.abc import Callable
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from tests.runners.tiny import write_tflite

SHAPE = (1, 24, 30, 3)


def write_crashing(path: Path) -> Path:
    """A convolution that was renamed SPLIT: ai-edge-litert 2.3.0 takes the photo for an axis and leaves its memory."""

    def damage(model: schema.ModelT) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SPLIT

    return _write(path, damage)


def write_endless(path: Path) -> Path:
    """`while True: pass`, as a WHILE operator."""

    def damage(model: schema.ModelT) -> None:
        true = schema.BufferT()
        true.data = [1]
        model.buffers.append(true)
        loop = schema.WhileOptionsT()
        loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
        operator = model.subgraphs[0].operators[0]
        operator.inputs, operator.builtinOptions = [0], loop
        operator.builtinOptionsType = schema.BuiltinOptions.WhileOptions
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
        model.subgraphs += [_graph(1, len(model.buffers) - 1), _graph(0, 0)]

    return _write(path, damage)


def write_vast(path: Path) -> Path:
    """A network of 200 GB, in 512 bytes."""

    def damage(model: schema.ModelT) -> None:
        for tensor in model.subgraphs[0].tensors[:2]:
            tensor.shape = [1, 100_000, 200_000, tensor.shape[3]]

    return _write(path, damage)


def _graph(output: int, buffer: int) -> schema.SubGraphT:
    """Takes an image; returns it (output 0), or the constant `True` (output 1)."""
    graph = schema.SubGraphT()
    image, true = schema.TensorT(), schema.TensorT()
    image.name, image.shape, image.type, image.buffer = b"image", list(SHAPE), schema.TensorType.FLOAT32, 0
    true.name, true.shape, true.type, true.buffer = b"true", [], schema.TensorType.BOOL, buffer
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [image, true], [0], [output], []
    return graph


def _write(path: Path, damage: Callable[[schema.ModelT], None]) -> Path:
    write_tflite(path, shape=SHAPE)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    damage(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
