"""Small changes of .tflite flatbuffers, and what is read where they are made."""

from collections.abc import Mapping
from typing import Any

#: Places in the vtable of a flatbuffer table: the first field has 4, each further one 2 more (schema.fbs: `Tensor` is
#: shape, type, buffer, name, …; `TensorMap` is name, tensor_index).
_TENSOR_NAME = 10
_MAP_NAME = 4

#: Fields of `Model`: version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata,
#: signature_defs; all but the first are offsets.
_MODEL_FIELDS = 8
_MODEL_VERSION, _MODEL_BUFFERS, _MODEL_METADATA = 0, 4, 6

#: What schema.fbs forces on every buffer.
_ALIGNMENT = 16

#: Entries of a foreign file that are looked through; converters write three.
_MAX_METADATA = 1_000


def keras_layer(tensor_name: str) -> str:
    """The Keras layer in a tensor's name, without TFMOT's `quant_`.

    The converter writes `net/stem_relu/Relu6;net/stem_bn/…`: the operators that it fused, the last one first; each is
    the network's scope, the layer and the operation (`net/up/resize/ResizeBilinear` has two levels of it).
    """
    parts = tensor_name.split(";")[0].split("/")
    return (parts[1] if len(parts) > 1 else parts[0]).removeprefix("quant_")


def rename_io(content: bytes, input_name: str, output_name: str) -> bytes:
    """Names the one input and the one output, in the graph and in the signature, where there is one.

    The converter writes `serving_default_image:0`, `StatefulPartitionedCall:0` and `output_0`. The new name is put
    over the old one, which leaves every buffer where it is: the schema's Python classes would pack them anew, without
    the 16-byte alignment that runtimes want.
    """
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed)
    graph = model.Subgraphs(0)
    assert graph.InputsLength() == graph.OutputsLength() == 1
    _overwrite(changed, graph.Tensors(graph.Inputs(0)), _TENSOR_NAME, input_name)
    _overwrite(changed, graph.Tensors(graph.Outputs(0)), _TENSOR_NAME, output_name)
    # none where a custom gradient (swish) has left a function in the graph
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        _overwrite(changed, signature.Inputs(0), _MAP_NAME, input_name)
        _overwrite(changed, signature.Outputs(0), _MAP_NAME, output_name)
    return bytes(changed)


def add_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """Adds a named buffer to the model's metadata; every tensor and buffer keeps its bytes and its alignment.

    Args:
        content: of a .tflite without a buffer of that name.
        name: such as `TFLITE_METADATA`.
        data: of the buffer.
    """
    return _append(content, data, name)


def add_buffer(content: bytes, data: bytes) -> bytes:
    """Adds a buffer behind the last one, for a tensor that is to have other values; nothing else changes."""
    return _append(content, data)


def _append(content: bytes, data: bytes, name: str | None = None) -> bytes:
    """Adds a buffer, and an entry of metadata for it if it has a name.

    A flatbuffer is written from its end to its start and every offset points forward, so a new root in front of the
    old content may point into it. Packing all of it anew would lose the 16-byte alignment that runtimes want.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    # alignments count from the end
    old = bytes(content) + bytes(-len(content) % _ALIGNMENT)
    model = schema.Model.GetRootAs(old)
    names = [model.Metadata(index).Name() for index in range(model.MetadataLength())]
    assert name is None or name.encode() not in names, f"has {name} already"
    builder = flatbuffers.Builder(0)
    builder.Bytes, builder.head, builder.minalign = bytearray(old), 0, _ALIGNMENT

    def vector(positions: list[int], *added: int) -> int:
        offsets = [*(len(old) - position for position in positions), *added]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    builder.StartVector(1, len(data), _ALIGNMENT)
    for byte in reversed(data):
        builder.PrependByte(byte)
    packed = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, packed)
    buffer = schema.BufferEnd(builder)
    replaced = {}
    if name is not None:
        title = builder.CreateString(name)
        schema.MetadataStart(builder)
        schema.MetadataAddName(builder, title)
        schema.MetadataAddBuffer(builder, model.BuffersLength())
        entry = schema.MetadataEnd(builder)
        entries = [model.Metadata(i)._tab.Pos for i in range(model.MetadataLength())]
        replaced[_MODEL_METADATA] = vector(entries, entry)
    replaced[_MODEL_BUFFERS] = vector([model.Buffers(i)._tab.Pos for i in range(model.BuffersLength())], buffer)
    builder.Finish(_new_root(builder, schema, model, len(old), replaced), b"TFL3")
    return bytes(builder.Output())


def read_metadata(content: bytes, name: str) -> bytes | None:
    """A named buffer of the model's metadata; None: there is none.

    Raises:
        struct.error, IndexError, …: a damaged file; the caller knows which.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    for index in range(min(model.MetadataLength(), _MAX_METADATA)):
        entry = model.Metadata(index)
        if entry.Name() == name.encode() and entry.Buffer() < model.BuffersLength():
            buffer = model.Buffers(entry.Buffer())
            return buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""
    return None


def replace_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """Puts other bytes of the same length into a named buffer of the model's metadata; nothing else changes."""
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    buffers = [model.Buffers(entry.Buffer()) for entry in entries if entry.Name() == name.encode()]
    assert len(buffers) == 1, f"{len(buffers)} buffers are called {name}"
    start, length = buffers[0]._tab.Vector(buffers[0]._tab.Offset(4)), buffers[0].DataLength()
    assert len(data) == length, f"{name} has {length} bytes, not {len(data)}"
    changed[start : start + length] = data
    return bytes(changed)


def _new_root(builder: Any, schema: Any, model: Any, old_size: int, replaced: Mapping[int, int]) -> int:
    """A `Model` table that points to the old content, but for the fields `replaced`: number of the field → offset."""
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, model.Version())
    for slot in range(_MODEL_FIELDS):
        where = model._tab.Offset(4 + 2 * slot)
        if where and slot != _MODEL_VERSION and slot not in replaced:
            pointed = model._tab.Indirect(model._tab.Pos + where)
            builder.PrependUOffsetTRelativeSlot(slot, old_size - pointed, 0)
    for slot, offset in replaced.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(schema.ModelEnd(builder))


def _overwrite(content: bytearray, table: Any, offset: int, name: str) -> None:
    """Replaces a string field by one that is not longer."""
    field = table._tab.Pos + table._tab.Offset(offset)
    start = field + int.from_bytes(content[field : field + 4], "little")
    old_length = int.from_bytes(content[start : start + 4], "little")
    new = name.encode()
    assert len(new) <= old_length, f"no room for '{name}'"
    content[start : start + 4] = len(new).to_bytes(4, "little")
    content[start + 4 : start + 4 + old_length] = new.ljust(old_length, b"\0")
