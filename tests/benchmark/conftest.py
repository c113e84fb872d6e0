"""A run with tiny exported files, and a folder of tiny photos on which they are nearly right."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmark.measuring import measure
from benchmark.measuring.cold import ColdStart
from portraitseg import files, manifest
from portraitseg.data.base import hash_keys
from portraitseg.runners import RUNNERS, NotRunnable
from tests.runners.tiny import write_onnx, write_tflite

SPLITS = {"test_a": 4, "test_b": 3, "val": 2, "train": 2}


def write_photos(root: Path, splits: dict[str, int] = SPLITS) -> Path:
    """Bright discs on a dark ground: a file that returns brightness finds them."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    keys: dict[str, list[str]] = {}
    for name, count in splits.items():
        for index in range(count):
            mask = np.zeros((48, 60), np.uint8)
            cv2.circle(mask, (25 + 3 * index, 24), 14, 255, -1)
            image = np.repeat(np.where(mask > 0, np.uint8(230), np.uint8(20))[..., None], 3, axis=2)
            stem = f"{name}_{index}"
            cv2.imwrite(str(root / "images" / f"{stem}.png"), image)
            cv2.imwrite(str(root / "masks" / f"{stem}.png"), mask)
            keys.setdefault(name, []).append(stem)
    hashes = {name: hash_keys(stems) for name, stems in keys.items()}
    (root / "splits.json").write_text(json.dumps({"splits": keys, "sha256_16": hashes}))
    return root


def write_manifest(folder: Path, *names: str, refine: manifest.Refine | None = None) -> Path:
    """Lists files that are in the folder."""
    source = manifest.Source(
        model="tiny",
        config_sha256="0" * 64,
        git_commit="unknown",
        seed=7,
        weights_sha256="1" * 64,
        data=(),
        tools={},
        refine=refine,
    )
    entries = [_entry(folder / name) for name in names]
    path = folder / manifest.MANIFEST_NAME
    manifest.write(path, manifest.Manifest(source=source, files=tuple(entries)))
    return path


def _entry(path: Path) -> manifest.FileEntry:
    tensor = {"name": "image", "shape": (1, 24, 30, 3), "dtype": "float32", "range": (0.0, 1.0)}
    return manifest.FileEntry(
        path=path.name,
        sha256=files.sha256(path),
        bytes=files.size_bytes(path),
        model="tiny",
        channels="rgb",
        recipe=path.stem.rpartition("-")[2],
        input=manifest.Tensor(**tensor),
        output=manifest.Tensor(**{**tensor, "name": "mask", "shape": (1, 24, 30, 1)}),
        parity=manifest.Parity(reference="keras", not_run="a tiny file has no Keras model"),
        quality=(manifest.Quality(split="older", sha256_16="a" * 16, iou=0.5, boundary_iou=0.5, photos=1),),
    )


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """The current folder: run `tiny` with a TFLite and an ONNX file, and `photos/`."""
    monkeypatch.chdir(tmp_path)
    for folder in ("android_assets/tiny", "runs/tiny/onnx"):
        Path(folder).mkdir(parents=True)
    write_tflite(Path("android_assets/tiny/tiny-24x30-rgb-fp32.tflite"), shape=(1, 24, 30, 3))
    write_onnx(Path("runs/tiny/onnx/tiny-24x30-nhwc-fp32.onnx"), size=(24, 30))
    write_manifest(Path("android_assets/tiny"), "tiny-24x30-rgb-fp32.tflite")
    write_manifest(Path("runs/tiny/onnx"), "tiny-24x30-nhwc-fp32.onnx")
    write_photos(Path("photos"))
    Path("runs/tiny/config.json").write_text(json.dumps({"data": {"format": "folder", "root": "photos"}}))
    return tmp_path


@pytest.fixture
def core_ml(workspace, monkeypatch):
    """One more file of the run, which nothing on this machine can run."""

    def refuse(path: Path, threads: int, reference_kernels: bool):
        raise NotRunnable("Core ML runs on macOS only", needs="macOS")

    monkeypatch.setitem(RUNNERS, ".mlpackage", refuse)
    folder = Path("ios_assets/tiny")
    (folder / "tiny-24x30-fp16.mlpackage").mkdir(parents=True)
    (folder / "tiny-24x30-fp16.mlpackage" / "Manifest.json").write_text("{}")
    write_manifest(folder, "tiny-24x30-fp16.mlpackage")
    return folder


@pytest.fixture(autouse=True)
def _no_new_processes(monkeypatch):
    """First runs in processes of their own take a second each; tests/benchmark/test_cold.py has the real ones."""
    monkeypatch.setattr(measure, "cold_start", lambda model_file, threads: ColdStart(3.0, 2.0, 1.5))
