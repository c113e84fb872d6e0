"""What a .tflite says of itself, ours or anybody's: tensors, operators, metadata, labels; nothing in it is executed."""

import io
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitseg.errors import InputError
from portraitseg.tflite import metadata
from portraitseg.tflite.flatbuffer import read_metadata
from portraitseg.tflite.graph import DAMAGE, Graph, Tensor, read_graph

#: What readers of a damaged file raise: of the flatbuffer, and of the zip of labels behind it.
_DAMAGE = (*DAMAGE, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile)

#: Of files behind the model: more of them, or longer ones, are not shown.
_MAX_FILES = 100
_MAX_LABELS_BYTES = 64 * 1024
_SHOWN_LABELS = 20


@dataclass(frozen=True)
class Info:
    """A .tflite as far as it can be told without running it.

    Attributes:
        size_bytes: of the file.
        graph: its main graph.
        metadata: by field, see `metadata.read`; None where there is none.
        files: name → bytes of the files in the zip archive behind the model.
        labels: name of a label file → its first lines.
    """

    size_bytes: int
    graph: Graph
    metadata: dict[str, Any] | None
    files: dict[str, int]
    labels: dict[str, list[str]]

    @property
    def operators(self) -> dict[str, int]:
        """Name → how many, the most frequent first."""
        return dict(Counter(op.name for op in self.graph.ops).most_common())


def read_info(path: Path) -> Info:
    """Reads a .tflite.

    Raises:
        InputError: missing, or damaged; graph, metadata or archive.
    """
    graph = read_graph(path)
    content = path.read_bytes()
    try:
        packed = read_metadata(content, metadata.METADATA_NAME)
        values = metadata.read(packed) if packed is not None else None
    except _DAMAGE as error:
        raise InputError(f"{path}: damaged metadata: {_reason(error)}: export the file again") from error
    try:
        sizes, labels = _archive(content)
    except _DAMAGE as error:
        raise InputError(f"{path}: damaged archive behind the model: {_reason(error)}: export it again") from error
    return Info(len(content), graph, values, sizes, labels)


def _archive(content: bytes) -> tuple[dict[str, int], dict[str, list[str]]]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}, {}
    sizes: dict[str, int] = {}
    labels: dict[str, list[str]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist()[:_MAX_FILES]:
            sizes[entry.filename] = entry.file_size
            # a compressed entry may say one size and unpack to another
            if entry.filename.endswith(".txt") and entry.file_size <= _MAX_LABELS_BYTES:
                with archive.open(entry) as file:
                    text = file.read(_MAX_LABELS_BYTES).decode(errors="replace")
                labels[entry.filename] = text.splitlines()[:_SHOWN_LABELS]
    return sizes, labels


def describe(path: Path) -> list[tuple[str, str]]:
    """Rows of (what, value) for the terminal; foreign text is shown as it stands in the file.

    Raises:
        InputError: as `read_info`.
    """
    info = read_info(path)
    rows = [("size", f"{info.size_bytes:,} bytes, {_weights(info.graph)}")]
    rows += [("input", _tensor(tensor)) for tensor in info.graph.inputs]
    rows += [("output", _tensor(tensor)) for tensor in info.graph.outputs]
    rows.append(("operators", ", ".join(f"{count} {name}" for name, count in info.operators.items()) or "none"))
    values = info.metadata
    if values is None:
        rows.append(("metadata", "none"))
    else:
        for key in ("name", "version", "description", "author", "license", "min_parser_version"):
            if key in values:
                rows.append((key.replace("_", " "), values[key]))
        for graph in values.get("subgraphs", []):
            rows += _graph_rows(graph)
    rows += [("packed file", f"{name}, {size:,} bytes") for name, size in info.files.items()]
    rows += [("labels", f"{name}: {', '.join(lines)}") for name, lines in info.labels.items()]
    return rows


def _graph_rows(graph: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for side in ("inputs", "outputs"):
        for tensor in graph.get(side, []):
            text = f"{tensor.get('name', '')}: {tensor.get('description', '')}"
            for unit in tensor.get("process_units", []):
                kind, options = unit.get("options", ("", {}))
                if kind == "NormalizationOptions":
                    text += f"; (pixel - {options.get('mean')}) / {options.get('std')}"
            rows.append((f"{side[:-1]} note", text))
    for entry in graph.get("custom", []):
        detail = (
            f"activation {entry['activation']}" if "activation" in entry else f"{len(entry.get('data', b''))} bytes"
        )
        rows.append(("custom", f"{entry.get('name', '')}: {detail}"))
    return rows


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.name} {tensor.dtype.lower()} {'×'.join(str(side) for side in tensor.signature)}"
    if len(tensor.scales) > 1:
        return f"{text}, {len(tensor.scales)} scales"
    if tensor.scales:
        (scale,), (zero_point,) = tensor.scales, tensor.zero_points
        return f"{text}, scale {scale:.8g} ({_fraction(scale)}), zero point {zero_point}"
    return text


def _fraction(scale: float) -> str:
    return f"1/{1 / scale:.6g}" if scale > 0 else "no scale"


def _weights(graph: Graph) -> str:
    counts: Counter[str] = Counter()
    for tensor in graph.tensors:
        if tensor.is_constant:
            counts[tensor.dtype.lower()] += max(tensor.size, 0)
    return "constants: " + (", ".join(f"{count:,} {dtype}" for dtype, count in counts.most_common()) or "none")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
