"""Metadata inside a .tflite, as MediaPipe Tasks and TFLite's own tools read it: written, attached, read back."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitseg.contract import Channels
from portraitseg.tflite import _metadata_schema as schema
from portraitseg.tflite import flatbuffer

#: Name of the buffer in the model, and the identifiers of the two flatbuffers.
METADATA_NAME = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
SEGMENTER_NAME = "SEGMENTER_METADATA"
SEGMENTER_IDENTIFIER = b"V001"

LABELS_NAME = "labels.txt"

#: One line a channel of the mask.
LABELS = ("person",)
LABELS_TEXT = "\n".join(LABELS) + "\n"

#: The first parser that knows SubGraphMetadata.custom_metadata.
_PARSER_VERSION = "1.5.0"

#: Whatever a phone's photo of bytes is divided by: (x - mean) / std.
_MEAN, _STD = 0.0, 255.0

#: A fixed date, so that the same weights give the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Card:
    """What a file says of itself.

    Attributes:
        name: of the network, such as `fast_scnn`.
        version: of the weights.
        licence: of the photos that they were trained on.
        recipe: of the file.
        channels: of the input.
        scores: what is known of their quality, in words; empty where nothing is.
    """

    name: str
    version: str
    licence: str
    recipe: str
    channels: Channels
    scores: str = ""


def attach(content: bytes, card: Card) -> bytes:
    """Puts metadata into a .tflite and the label file behind it; the graph stays byte for byte what it was.

    Args:
        content: of a .tflite without metadata, one input and one output.
        card: what to say.

    Returns:
        The content of the file with metadata; at its end a zip archive, which readers look for from the end.
    """
    packed = schema.pack("ModelMetadata", _describe(card), METADATA_IDENTIFIER)
    return append_files(flatbuffer.add_metadata(content, METADATA_NAME, packed), {LABELS_NAME: LABELS_TEXT})


def append_files(content: bytes, texts: dict[str, str]) -> bytes:
    """Appends an uncompressed zip archive: MediaPipe maps the files in it, and refuses compressed ones."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), text)
    return stream.getvalue()


def read_labels(path: Path) -> str | None:
    """The label file behind a .tflite; None where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(LABELS_NAME).decode("utf-8")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return None


def read(packed: bytes) -> dict[str, Any]:
    """Metadata as nested dictionaries, the fields as `_metadata_schema.TABLES` names them.

    The segmenter's own flatbuffer is read too: `activation` then stands in its `custom` entry.

    Raises:
        ValueError and others: as `_metadata_schema.unpack`.
    """
    values = schema.unpack("ModelMetadata", packed, METADATA_IDENTIFIER)
    for graph in values.get("subgraphs", []):
        for entry in graph.get("custom", []):
            if entry.get("name") == SEGMENTER_NAME and "data" in entry:
                options = schema.unpack("ImageSegmenterOptions", entry["data"], SEGMENTER_IDENTIFIER)
                number = options.get("activation", 0)
                known = 0 <= number < len(schema.ACTIVATIONS)
                entry["activation"] = schema.ACTIVATIONS[number] if known else f"unknown ({number})"
    return values


def _describe(card: Card) -> dict[str, Any]:
    labels = {"name": LABELS_NAME, "description": "one line a channel", "type": schema.FILE_TENSOR_AXIS_LABELS}
    # the sigmoid is in the graph: a client that applied another one would squeeze the mask to 0.5…0.73
    options = schema.pack(
        "ImageSegmenterOptions",
        {"activation": schema.ACTIVATIONS.index("NONE"), "min_parser_version": "1.0.0"},
        SEGMENTER_IDENTIFIER,
    )
    graph = {
        "name": card.name,
        "inputs": [_input(card.channels)],
        "outputs": [
            {
                "name": "mask",
                "description": "probability of person, 0 to 1; person where it is above 0.5",
                "content": {"properties": ("ImageProperties", {})},
                "stats": {"min": [0.0], "max": [1.0]},
                "associated_files": [labels],
            }
        ],
        "custom": [{"name": SEGMENTER_NAME, "data": options}],
    }
    scores = f" {card.scores}." if card.scores else ""
    return {
        "name": card.name,
        "description": f"Portrait segmentation: probability of person for each pixel. Recipe {card.recipe}.{scores}",
        "version": card.version,
        "author": "portraitseg",
        "license": f"code and network Apache-2.0; weights trained on photos under: {card.licence}",
        "subgraphs": [graph],
        "min_parser_version": _PARSER_VERSION,
    }


def _input(channels: Channels) -> dict[str, Any]:
    fourth = "; the fourth channel, alpha, changes nothing" if channels == "rgba" else ""
    return {
        "name": "image",
        "description": f"RGB photo, stretched to this size, pixels 0 to 255 divided by 255{fourth}",
        "content": {"properties": ("ImageProperties", {"color_space": schema.COLOR_RGB})},
        # one number each: MediaPipe takes only the first with four channels
        "process_units": [{"options": ("NormalizationOptions", {"mean": [_MEAN], "std": [_STD]})}],
        "stats": {"min": [0.0], "max": [1.0]},
    }
