"""`portraitseg info`: what is known of a model before it is run: what is in the file, and what its manifest says."""

import importlib.util

from portraitseg import files, manifest, terms
from portraitseg.errors import InputError
from portraitseg.manifest import FileEntry, Manifest
from portraitseg.runners import RUNNERS, onnx
from portraitseg.runners.coreml import values as coreml
from portraitseg.segment import released
from portraitseg.segment.segmenter import find_model
from portraitseg.tflite import info as tflite


def describe(model: str) -> list[tuple[str, str]]:
    """Rows of (what, value); nothing in the file is executed.

    Raises:
        InputError: no such model, a damaged file or manifest.
    """
    path = find_model(model)
    if not path.exists():
        raise InputError(f"{path}: no such file (released networks: {', '.join(released.names())})")
    if path.suffix not in RUNNERS:
        raise InputError(f"{path}: not a model: name a {', '.join(RUNNERS)}, or a released network")
    rows = [("file", str(path)), ("sha256", files.sha256(path))]
    size = ("size", f"{files.size_bytes(path):,} bytes")
    readers = {".tflite": tflite.describe, ".onnx": lambda path: [size, *onnx.describe(path)]}
    if path.suffix in (".mlpackage", ".mlmodel") and importlib.util.find_spec("coremltools") is not None:
        # what is no Core ML model is refused, where that can be told
        coreml.read_spec(path)
    rows += readers.get(path.suffix, lambda _: [size])(path)
    index = path.parent / manifest.MANIFEST_NAME
    if index.is_file():
        listed = manifest.read(Manifest, index)
        rows += [row for entry in listed.files if entry.path == path.name for row in _entry(listed, entry)]
    return rows


def _entry(listed: Manifest, entry: FileEntry) -> list[tuple[str, str]]:
    rows = [("model", f"{entry.model}, {entry.recipe}, {entry.channels}")]
    for score in entry.quality:
        scores = f"IoU {100 * score.iou:.2f}, boundary IoU {100 * score.boundary_iou:.2f}"
        rows.append((score.split, f"{scores} ({score.photos} photos)"))
    chosen = {"refine": listed.source.refine, "smooth": listed.source.smooth}
    for name, part in chosen.items():
        if part is not None:
            values = part.parameters
            on = f" (chosen on {part.chosen_on.split})" if part.chosen_on else ""
            rows.append((name, ", ".join(f"{key} {value:g}" for key, value in values.items()) + on))
    return [*rows, ("licence", terms.sentence(listed.source) or "not stated")]
