"""Reads Core ML's files as they lie on disk: the specification (protobuf), the weight file, and the values in both.

Neither needs a Mac, nor coremltools itself: only its generated protobuf classes are taken, because importing
coremltools imports TensorFlow (7 s) and prints a line for each of its parts that other machines lack.
"""

import importlib
import importlib.util
import struct
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from portraitseg.errors import InputError

#: The name under which the protobuf classes are imported here.
_PROTO = "portraitseg_coremltools_proto"

#: MIL.proto, enum DataType → (numpy's type, bits); the weight file has codes of its own (`BlobFile`).
DTYPES: dict[int, tuple[Any, int]] = {
    1: (np.bool_, 8),
    10: (np.float16, 16),
    11: (np.float32, 32),
    12: (np.float64, 64),
    21: (np.int8, 8),
    22: (np.int16, 16),
    23: (np.int32, 32),
    24: (np.int64, 64),
    25: (np.int8, 4),
    31: (np.uint8, 8),
    32: (np.uint16, 16),
    33: (np.uint32, 32),
    34: (np.uint64, 64),
    35: (np.uint8, 4),
    36: (np.uint8, 2),
    37: (np.uint8, 1),
    38: (np.uint8, 6),
    39: (np.uint8, 3),
}
STRING, FLOAT16 = 2, 10


@cache
def proto(name: str) -> ModuleType:
    """A module of coremltools' protobuf classes, such as `Model_pb2`.

    Raises:
        InputError: coremltools is not installed.
    """
    if _PROTO not in sys.modules:
        parent = importlib.util.find_spec("coremltools")
        if parent is None or not parent.submodule_search_locations:
            raise InputError(
                "Core ML files need coremltools: pip install 'portraitseg[all]', or take a .tflite of the same network"
            )
        folder = Path(parent.submodule_search_locations[0]) / "proto"
        spec = importlib.util.spec_from_file_location(
            _PROTO, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[_PROTO] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{_PROTO}.{name}")


def read_spec(path: Path) -> tuple[Any, Path]:
    """Reads the specification of an .mlmodel or .mlpackage.

    Returns:
        `Model` protobuf, and the folder in which the program's weight files are.

    Raises:
        InputError: a package without specification, or no Core ML model.
    """
    from google.protobuf.message import DecodeError

    folder = path
    if path.is_dir():
        # the layout that Manifest.json of every package by coremltools names
        folder = path / "Data" / "com.apple.CoreML"
        path = folder / "model.mlmodel"
        if not path.is_file():
            raise InputError(f"{path}: no such file: not a package that coremltools wrote, or a part of it is lost")
    model = proto("Model_pb2").Model()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path}: not a Core ML model: {error}") from error
    if not model.specificationVersion or model.WhichOneof("Type") is None:
        raise InputError(f"{path}: not a Core ML model: no specification version, or no model inside")
    return model, folder


class BlobFile:
    """A weight file (`weight.bin`) of an ML program.

    Format (coremltools `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`): 64 bytes of file header; at the offset that the
    program names, 64 bytes that begin with the sentinel 0xDEADBEEF, a type code, the size in bytes and the offset of
    the data. Little-endian; types of less than 8 bits are packed, least significant bits first.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file: copy the whole .mlpackage folder")
        self.path = path
        self._content = path.read_bytes()

    def read(self, offset: int, dtype: int, count: int) -> np.ndarray:
        """Reads a flat array.

        Args:
            offset: of its 64 bytes of description.
            dtype: a key of `DTYPES`.
            count: of elements.

        Raises:
            InputError: nothing begins at that offset, another size, or the file ends before.
        """
        if offset + 64 > len(self._content):
            raise InputError(f"{self.path}: truncated: {len(self._content)} bytes, a weight begins at {offset}")
        sentinel, _, size, start = struct.unpack_from("<IIQQ", self._content, offset)
        if sentinel != 0xDEADBEEF:
            raise InputError(f"{self.path}: no weight begins at {offset}: not the file that belongs to this program")
        expected = -(-count * DTYPES[dtype][1] // 8)
        if size != expected:
            raise InputError(f"{self.path}: the weight at {offset} has {size} bytes, the program expects {expected}")
        if start + size > len(self._content):
            raise InputError(f"{self.path}: truncated: {len(self._content)} bytes, a weight ends at {start + size}")
        return unpack(self._content[start : start + size], dtype, count)


def unpack(content: bytes, dtype: int, count: int) -> np.ndarray:
    """Bytes → flat array of `count` elements; types of less than 8 bits come back in 8."""
    kind, bits = DTYPES[dtype]
    if bits >= 8:
        return np.frombuffer(content, kind, count)
    values = unpack_bits(np.frombuffer(content, np.uint8), bits, count)
    if kind is np.int8:
        # two's complement in `bits` bits
        return np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)
    return values


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Bit fields of 1 to 8 bits, least significant bits first, over byte borders → uint8."""
    fields = np.unpackbits(packed.astype(np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return fields @ (1 << np.arange(bits)).astype(np.uint8)


class Values:
    """Values of an ML program: in the specification itself, or in weight files, each of which is read once."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._files: dict[str, BlobFile] = {}

    def read(self, value: Any) -> Any:
        """`MIL.Value` → float32 or integer array, a Python scalar for rank 0, or a string.

        float16 comes back as float32: the same numbers, and numpy computes with them.

        Raises:
            InputError: no tensor, an unknown type, or a damaged weight file.
        """
        tensor = value.type.tensorType
        if value.type.WhichOneof("type") != "tensorType":
            raise InputError(f"{self._path}: a constant is a {value.type.WhichOneof('type')}: only tensors are known")
        shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
        if tensor.dataType == STRING:
            return value.immediateValue.tensor.strings.values[0]
        if tensor.dataType not in DTYPES:
            raise InputError(f"{self._path}: a constant has MIL type {tensor.dataType}, which is not known")
        array = self._flat(value, tensor.dataType, int(np.prod(shape, dtype=np.int64))).reshape(shape)
        if array.dtype in (np.float16, np.float64):
            array = array.astype(np.float32)
        return array.item() if array.ndim == 0 else array

    def _flat(self, value: Any, dtype: int, count: int) -> np.ndarray:
        if value.WhichOneof("value") == "blobFileValue":
            # "@model_path/weights/weight.bin"; nothing outside the package is opened
            name = value.blobFileValue.fileName.removeprefix("@model_path/")
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise InputError(f"{self._path}: weights in '{name}', which is outside the package")
            if name not in self._files:
                self._files[name] = BlobFile(self._folder / name)
            return self._files[name].read(value.blobFileValue.offset, dtype, count)
        content = value.immediateValue.tensor
        kind = content.WhichOneof("value")
        if kind == "bytes":
            return unpack(content.bytes.values, dtype, count)
        array = np.array(getattr(content, kind).values, DTYPES[dtype][0]) if kind else np.empty(0)
        if array.size != count:
            raise InputError(f"{self._path}: a constant has {array.size} elements, its type says {count}")
        return array
