"""TFLite's metadata_schema.fbs 1.5.0 and MediaPipe's image_segmenter_metadata_schema.fbs, as far as we use them.

The classes that flatc makes of them ship in no package that installs beside TensorFlow 2.21: a table of fields and one
packer replace 6,000 generated lines.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.encode import Get
from flatbuffers.packer import uoffset
from flatbuffers.table import Table

#: Table → fields in the order of the schema: (name, kind). Kinds: `string`, `byte`, `floats` and `bytes` (vectors),
#: `Other` (a table), `[Other]` (a vector of them), `A|B` (a union: it takes two places, the type before the value).
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "ModelMetadata": (
        ("name", "string"),
        ("description", "string"),
        ("version", "string"),
        ("subgraphs", "[SubGraphMetadata]"),
        ("author", "string"),
        ("license", "string"),
        ("associated_files", "[AssociatedFile]"),
        ("min_parser_version", "string"),
    ),
    "SubGraphMetadata": (
        ("name", "string"),
        ("description", "string"),
        ("inputs", "[TensorMetadata]"),
        ("outputs", "[TensorMetadata]"),
        ("associated_files", "[AssociatedFile]"),
        ("input_process_units", "[ProcessUnit]"),
        ("output_process_units", "[ProcessUnit]"),
        ("input_tensor_groups", "[Unread]"),
        ("output_tensor_groups", "[Unread]"),
        ("custom", "[CustomMetadata]"),
    ),
    "TensorMetadata": (
        ("name", "string"),
        ("description", "string"),
        ("dimension_names", "strings"),
        ("content", "Content"),
        ("process_units", "[ProcessUnit]"),
        ("stats", "Stats"),
        ("associated_files", "[AssociatedFile]"),
    ),
    "Content": (("properties", "FeatureProperties|ImageProperties|Unread|Unread"), ("range", "Unread")),
    "FeatureProperties": (),
    "ImageProperties": (("color_space", "byte"),),
    "ProcessUnit": (("options", "NormalizationOptions|Unread|Unread|Unread|Unread|Unread"),),
    "NormalizationOptions": (("mean", "floats"), ("std", "floats")),
    "Stats": (("max", "floats"), ("min", "floats")),
    "AssociatedFile": (("name", "string"), ("description", "string"), ("type", "byte")),
    "CustomMetadata": (("name", "string"), ("data", "bytes")),
    "ImageSegmenterOptions": (("activation", "byte"), ("min_parser_version", "string")),
    "Unread": (),
}

#: Enumerations of the two schemas.
COLOR_RGB = 1
FILE_TENSOR_AXIS_LABELS = 2
ACTIVATIONS = ("NONE", "SIGMOID", "SOFTMAX")

#: What a reader takes from a foreign file at most: a hostile vector names one table a million times.
_MAX_NODES = 10_000
_MAX_STRING = 100_000


def pack(table: str, values: dict[str, Any], identifier: bytes) -> bytes:
    """Writes nested dictionaries as a flatbuffer.

    Args:
        table: the root, a key of `TABLES`.
        values: by field; a union's value is `(table, values)`. A field that is not named is left out.
        identifier: four bytes.
    """
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack_table(builder, table, values), identifier)
    return bytes(builder.Output())


def unpack(table: str, content: bytes, identifier: bytes) -> dict[str, Any]:
    """Reads what `pack` writes, and foreign metadata as far as `TABLES` describes it.

    Raises:
        ValueError: another identifier, or larger than any metadata.
        struct.error, IndexError, …: offsets that lead nowhere; the caller knows which.
    """
    if len(content) < 8 or content[4:8] != identifier:
        raise ValueError(f"no {identifier.decode()} at byte 4")
    return _Reader(content).read(table, Get(uoffset, content, 0))


def _pack_table(builder: Any, table: str, values: dict[str, Any]) -> int:
    fields = TABLES[table]
    assert values.keys() <= {name for name, _ in fields}, f"{table} has no {set(values)}"
    # children first: a flatbuffer is written from its end
    children = {name: _pack_child(builder, kind, values[name]) for name, kind in fields if name in values}
    builder.StartObject(sum(2 if "|" in kind else 1 for _, kind in fields))
    slot = 0
    for name, kind in fields:
        if "|" in kind:
            if name in children:
                builder.PrependUint8Slot(slot, kind.split("|").index(values[name][0]) + 1, 0)
            slot += 1
        if name in children:
            if kind == "byte":
                builder.PrependInt8Slot(slot, values[name], 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, children[name], 0)
        slot += 1
    return int(builder.EndObject())


def _pack_child(builder: Any, kind: str, value: Any) -> int:
    if kind == "string":
        return int(builder.CreateString(value))
    if kind == "byte":
        return 0
    if kind == "bytes":
        # the schema's force_align, so that the flatbuffer inside may be read in place
        builder.StartVector(1, len(value), 16)
        builder.head -= len(value)
        builder.Bytes[builder.head : builder.head + len(value)] = value
        return int(builder.EndVector())
    if kind == "floats":
        builder.StartVector(4, len(value), 4)
        for number in reversed(value):
            builder.PrependFloat32(number)
        return int(builder.EndVector())
    if "|" in kind:
        return _pack_table(builder, value[0], value[1])
    if not kind.startswith("["):
        return _pack_table(builder, kind, value)
    offsets = [_pack_table(builder, kind[1:-1], item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


@dataclass
class _Reader:
    content: bytes
    nodes: int = field(default=0)

    def read(self, name: str, position: int) -> dict[str, Any]:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} tables and values")
        table = Table(self.content, position)
        values: dict[str, Any] = {}
        slot = 0
        for key, kind in TABLES[name]:
            where = table.Offset(4 + 2 * slot)
            slot += 2 if "|" in kind else 1
            if "|" in kind:
                number = table.Get(number_types.Uint8Flags, table.Pos + where) if where else 0
                where = table.Offset(4 + 2 * (slot - 1))
                members = kind.split("|")
                if where and 0 < number <= len(members):
                    member = members[number - 1]
                    values[key] = (member, self.read(member, table.Indirect(table.Pos + where)))
            elif where:
                values[key] = self._value(table, kind, where)
        return values

    def _value(self, table: Any, kind: str, where: int) -> Any:
        if kind == "byte":
            return table.Get(number_types.Int8Flags, table.Pos + where)
        if kind == "string":
            length = Get(uoffset, self.content, table.Indirect(table.Pos + where))
            if length > _MAX_STRING:
                raise ValueError(f"a text of {length} characters")
            return table.String(table.Pos + where).decode(errors="replace")
        if kind.startswith("[") or kind in ("floats", "bytes", "strings"):
            return self._vector(table, kind, where)
        return self.read(kind, table.Indirect(table.Pos + where))

    def _vector(self, table: Any, kind: str, where: int) -> Any:
        start, length = table.Vector(where), table.VectorLen(where)
        if kind == "bytes":
            if length > _MAX_STRING or start + length > len(self.content):
                raise ValueError(f"a field of {length} bytes")
            return bytes(self.content[start : start + length])
        self.nodes += length
        if self.nodes > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} tables and values")
        if kind == "floats":
            return list(struct.unpack_from(f"<{length}f", self.content, start))
        if kind == "strings":
            return [table.String(start + 4 * index).decode(errors="replace") for index in range(length)]
        return [self.read(kind[1:-1], table.Indirect(start + 4 * index)) for index in range(length)]
