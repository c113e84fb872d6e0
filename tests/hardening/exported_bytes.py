"""Hashes of every exported file: what a user gets changes only where somebody meant it to.

    python -m tests.hardening.exported_bytes            # compares with the committed table; exit 1 where one differs
    python -m tests.hardening.exported_bytes --write    # anew; a changed line of the table needs one in CHANGELOG.md

Exports the released runs from weights/*.h5, which must give the committed files too, and a tiny network of every line
of `MODELS` with seeded random weights. Files are converted only: no training, no parity.

The bytes are those of the libraries in requirements.lock: after another version the table is written anew, on a tree
that is known to be good.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import cli, files, manifest, terms
from portraitseg.errors import CheckFailed

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("exported_bytes.json")

RELEASED = tuple(sorted(path.parent.name for path in ROOT.glob("android_assets/*/manifest.json")))
TARGETS = ("android", "ios", "onnx")

#: The smallest side that every network takes, and inputs that set the ranges of integers.
_SIZE, _CALIBRATION = (64, 64), 4

#: What is another each time: the day of a Core ML conversion, and the names of the two items of a package.
_DATE = "com.github.apple.coremltools.conversion_date"
#: coremltools numbers the constants that it makes itself; which of two comes first differs from run to run.
_CONSTANT = re.compile(rb"const_\d+")
_UUID = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files of a package; of Core ML not the day, UUIDs, numbers and order of items."""
    if path.is_file():
        return hashlib.sha256(_content(path)).hexdigest()
    parts = [(item.relative_to(path).as_posix(), _content(item)) for item in sorted(path.rglob("*")) if item.is_file()]
    whole = hashlib.sha256()
    for name, content in parts:
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".mlmodel":
        import coremltools as ct

        spec = ct.proto.Model_pb2.Model.FromString(content)
        spec.description.metadata.userDefined.pop(_DATE, None)
        # protobuf writes a map in whatever order its hashes have today
        return re.sub(_CONSTANT, b"const", spec.SerializeToString(deterministic=True))
    if path.suffix == ".onnx":
        return _onnx_content(content)
    # its items are sorted by their names, which are UUIDs
    return b"".join(sorted(re.sub(_UUID, b"UUID", content).split(b"\n"))) if path.name == "Manifest.json" else content


def _onnx_content(content: bytes) -> bytes:
    """Operators with their attributes, and constants, in an order of their own: tf2onnx numbers and sorts them anew."""
    import onnx

    graph = onnx.load_from_string(content).graph
    parts = []
    for node in graph.node:
        attributes = sorted(item.SerializeToString(deterministic=True) for item in node.attribute)
        parts.append(b"\0".join([node.op_type.encode(), str(len(node.input)).encode(), *attributes]))
    for tensor in graph.initializer:
        tensor.ClearField("name")
        parts.append(tensor.SerializeToString(deterministic=True))
    parts += [item.SerializeToString(deterministic=True) for item in (*graph.input, *graph.output)]
    return b"\n".join(sorted(parts))


def released(name: str) -> Iterator[tuple[str, str]]:
    """Name and hash of each file of a released run; those that are committed must be equal.

    Raises:
        CheckFailed: one that is not.
    """
    from export import targets
    from export.product.product import Networks
    from export.quantization import qat
    from export.quantization.unwrap import unwrap
    from portraitseg.models import checkpoint

    assets = {target: ROOT / f"{target}_assets" / name for target in ("android", "ios")}
    listed = {
        target: manifest.read(manifest.Manifest, folder / manifest.MANIFEST_NAME) for target, folder in assets.items()
    }
    # <network>-<height>x<width>, of files and weights
    stem = listed["android"].files[0].path.partition("-rgb")[0]
    _write_artifact(name, listed["android"].source, assets["android"] / stem)
    is_unwrapped = any(entry.parity.reference == "keras_unwrapped" for entry in listed["ios"].files)
    float_model = checkpoint.load(ROOT / "weights" / f"{stem}.h5")
    quantized = qat.load_qat(ROOT / "weights" / f"{stem}-qat.h5")
    networks = Networks(
        float_model=float_model,
        qat_model=quantized,
        calibration=_portraits(float_model.input_shape[1:3]),
        run=name,
        licence=terms.sentence(listed["android"].source),
        unwrapped_model=unwrap(quantized) if is_unwrapped else None,
    )
    for target in TARGETS:
        committed = {entry.path for entry in listed[target].files} if target in listed else set()
        for path, digest in _convert(targets.TARGETS[target].products(networks), _is_shipped):
            if path in committed and digest != content_hash(assets[target] / path):
                raise CheckFailed(f"{name}: {path}: not the bytes that are committed in {assets[target]}")
            committed.discard(path)
            yield path, digest
        if committed:
            raise CheckFailed(f"{name}: {', '.join(sorted(committed))}: committed, but no longer exported")


def tiny(name: str) -> Iterator[tuple[str, str]]:
    """Name and hash of each file of a tiny network with seeded random weights."""
    from export import targets
    from export.product.product import Networks
    from export.quantization import qat
    from portraitseg import models

    float_model = models.build(name, _SIZE)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
    for weight in float_model.weights:
        weight.assign(_draw(rng, weight.name, tuple(weight.shape)))
    inputs = _inputs(_SIZE)
    quantized = qat.quantize(float_model)
    qat.calibrate(quantized, float_model, inputs)
    networks = Networks(float_model, quantized, inputs, run=name, licence="Apache-2.0")
    for target in ("android", "ios"):
        yield from _convert(targets.TARGETS[target].products(networks), _is_telling)


def _is_shipped(path: str) -> bool:
    """What a release keeps; of ONNX, one layout. The others take as long again, and pass through the same code."""
    if path.endswith(".tflite"):
        return path.endswith(("-fp16.tflite", "-fp16acc16.tflite", "-qat_wi8_ai8.tflite", "-qat_wi8_ai8_u8.tflite"))
    return "palette4" not in path and "-nchw-" not in path


def _is_telling(path: str) -> bool:
    """One file of each way: float and integer TFLite, bytes and alpha, Core ML."""
    return path.endswith(
        ("-rgb-fp16.tflite", "-rgb-qat_wi8_ai8.tflite", "-rgba-qat_wi8_ai8_u8.tflite", "-fp16.mlpackage")
    )


def _convert(products: Any, is_wanted: Any) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as scratch:
        for product in products:
            if is_wanted(product.path):
                path = Path(scratch) / product.path
                product.write(path)
                yield product.path, content_hash(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that neither die out nor run away in a deep network."""
    kind = name.rpartition("/")[2].partition(":")[0]
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    if kind in ("beta", "bias", "moving_mean"):
        return rng.normal(0, 0.1, shape)
    taps = int(np.prod(shape[:2])) if kind == "depthwise_kernel" else int(np.prod(shape[:-1]))
    return rng.normal(0, np.sqrt(2 / max(taps, 1)), shape)


def _inputs(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).random((_CALIBRATION, *size, 3), np.float32)


def _portraits(size: tuple[int, int]) -> np.ndarray:
    """What half precision is tried on: of noise a network makes no mask to compare."""
    from portraitseg.synthetic import portraits
    from tests.export import tiny

    return tiny.stack_inputs([portraits.render(index, size)[0] for index in range(_CALIBRATION)], size)


def _write_artifact(name: str, source: manifest.Source, stem: Path) -> None:
    """What an export reads of the training: the committed files say their scores themselves."""
    for stage, recipe in (("train", "fp16"), ("qat", "qat_wi8_ai8")):
        content = stem.with_name(f"{stem.name}-rgb-{recipe}.tflite").read_bytes()
        match = re.search(rb"IoU (\d\.\d{4}) on val in training", content)
        facts = {"best_val_iou": float(match.group(1))} if match else {}
        manifest.add_stage(Path("runs") / name / manifest.ARTIFACT_NAME, source, stage, facts)


def main() -> None:
    """Compares with the committed table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table anew, or its rows of --only")
    parser.add_argument("--only", nargs="*", default=[], help="released runs or networks, instead of all")
    arguments = parser.parse_args()
    from portraitseg import models
    from portraitseg.models.keras_route import keras

    table: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        # an export reads runs/<run>/artifact.json from where it is called
        os.chdir(folder)
        for kind, make, names in (("released", released, RELEASED), ("tiny", tiny, tuple(models.MODELS))):
            for name in names:
                if not arguments.only or name in arguments.only:
                    # layers are numbered over the whole process, and their names are in the files
                    keras.backend.clear_session()
                    table |= {f"{kind}/{name}/{path}": digest for path, digest in make(name)}
                    cli.say(f"{kind} {name}: {len(table)} files so far")
    known = json.loads(TABLE.read_text(encoding="utf-8"))
    others = {
        path: digest for path, digest in known.items() if arguments.only and path.split("/")[1] not in arguments.only
    }
    if arguments.write:
        # those that are made again stay where they stood
        kept = {path: digest for path, digest in known.items() if path in others or path in table}
        files.write_json(TABLE, kept | table)
        return
    known = {path: digest for path, digest in known.items() if path not in others}
    changed = sorted(path for path in known.keys() & table.keys() if known[path] != table[path])
    gone, fresh = sorted(known.keys() - table.keys()), sorted(table.keys() - known.keys())
    for what, paths in (("changed", changed), ("gone", gone), ("new", fresh)):
        for path in paths:
            cli.say(f"{what}: {path}")
    if changed or gone:
        raise CheckFailed(f"{len(changed)} exported files changed and {len(gone)} are gone, of {len(known)}")
    cli.say(f"{len(known)} exported files as in the table, {len(fresh)} new")


if __name__ == "__main__":
    cli.run(main)
