"""Which files MediaPipe's ImageSegmenter can be given, and a copy of each that it accepts."""

from pathlib import Path
from typing import Any

from portraitseg.checks.gpu.result import Subject
from portraitseg.tflite import flatbuffer, metadata
from portraitseg.tflite.graph import DAMAGE, Graph, Tensor

#: The normalization of the contract: (byte - mean) / std.
_MEAN, _STD = 0.0, 255.0


def why_not(subject: Subject) -> str | None:
    """Why a file cannot be run as a segmenter; None: it can."""
    graph = subject.graph
    if len(graph.inputs) != 1 or not _is_image(graph.inputs[0]):
        return "the segmenter takes one image, 1×h×w×3 or 1×h×w×4"
    try:
        packed = flatbuffer.read_metadata(subject.path.read_bytes(), metadata.METADATA_NAME)
        values = metadata.read(packed) if packed is not None else None
    except DAMAGE:
        return "its metadata is damaged"
    if values is not None and not _is_ours(values):
        return "its metadata asks for another normalization than division by 255, or for an activation of the segmenter"
    return None


def _is_image(tensor: Tensor) -> bool:
    return tensor.rank == 4 and tensor.shape[0] == 1 and tensor.shape[3] in (3, 4)


def _is_ours(values: dict[str, Any]) -> bool:
    graph = (values.get("subgraphs") or [{}])[0]
    units = [unit["options"] for entry in graph.get("inputs", [])[:1] for unit in entry.get("process_units", [])]
    scales = [options for kind, options in units if kind == "NormalizationOptions"]
    is_plain = all(set(o.get("mean", [])) == {_MEAN} and set(o.get("std", [])) == {_STD} for o in scales)
    return is_plain and all(entry.get("activation", "NONE") == "NONE" for entry in graph.get("custom", []))


def why_not_comparable(graph: Graph) -> str | None:
    """Why the masks that the segmenter hands over say nothing about the file's outputs; None: they are its output."""
    if len(graph.outputs) != 1:
        return "the segmenter hands over one output, the file has more"
    output, image = graph.outputs[0], graph.inputs[0]
    # it stretches a mask of another size to that of the image
    if output.rank != 4 or output.shape[:3] != image.shape[:3] or output.dtype != "FLOAT32":
        return "its output is no float mask of the image's size: the segmenter changes it"
    return None


def prepare(path: Path, copy: Path) -> None:
    """Writes a copy that the segmenter accepts: with our metadata, where the file has none."""
    content = path.read_bytes()
    if flatbuffer.read_metadata(content, metadata.METADATA_NAME) is None:
        content = metadata.attach(content, metadata.Card("network", "unknown", "unknown", "unknown", "rgb"))
    copy.write_bytes(content)
