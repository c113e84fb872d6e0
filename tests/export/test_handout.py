"""README.md of a folder of assets: true to its manifest, for what is released and for other shapes of it."""

import json
import re
from pathlib import Path

import pytest

from export.publishing import handout
from portraitseg import manifest
from portraitseg.manifest import HANDOUT_NAME, Manifest

ROOT = Path(__file__).parents[2]

RELEASED = sorted([*ROOT.glob("android_assets/*/README.md"), *ROOT.glob("ios_assets/*/README.md")])


def _made(folder: Path, tmp_path: Path, listed: Manifest | None = None) -> str:
    listed = listed or manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    handout.write(tmp_path, listed, json.loads((folder / "recommended.json").read_text()))
    return (tmp_path / HANDOUT_NAME).read_text()


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_of_a_released_folder(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text == _made(path.parent, tmp_path), "make release RUN=… writes it anew"
    # whatever looks like one of its files is there
    for name in re.findall(r"`([\w.-]+\.(?:tflite|mlpackage|mlmodel))`", text):
        assert (path.parent / name).exists(), name
    assert text.count("```") % 2 == 0


def test_there_is_one_to_look_at() -> None:
    assert RELEASED


def test_buffers_are_rewound_before_they_are_read(tmp_path: Path) -> None:
    """A buffer that was filled stands at its end: the interpreter would read nothing, and say nothing."""
    text = _made(ROOT / "android_assets/selfie_general", tmp_path)
    lines = [line.strip() for line in text.splitlines()]
    filled, ran = (
        next(i for i, line in enumerate(lines) if call in line) for call in ("copyPixels", "interpreter.run")
    )
    assert {"input.rewind()", "output.rewind()"} <= set(lines[filled + 1 : ran]) and lines[ran + 1] == "output.rewind()"
    # the accelerated path of TFLite takes buffers of the machine's own byte order
    assert text.count("allocateDirect(") == text.count(".order(ByteOrder.nativeOrder())") == 2


def test_who_divides_by_255_is_told_for_each_platform(tmp_path: Path) -> None:
    """Core ML packages scale inside: an app that does so too gets a black photo."""
    android, ios = (_made(ROOT / f"{platform}_assets/selfie_general", tmp_path) for platform in ("android", "ios"))
    assert "byte / 255 for files of float32, the byte itself for those of uint8" in android
    assert "byte / 255" not in ios and "the file divides by 255 itself" in ios


def test_the_gpu_has_a_package_of_its_own_and_a_way_out(tmp_path: Path) -> None:
    text = _made(ROOT / "android_assets/selfie_general", tmp_path)
    # without it the app builds, and the GPU is refused at run time
    assert "litert-gpu:" in text
    assert text.index("Accelerator.GPU)") < text.index("catch") < text.index("Accelerator.CPU)")


def test_names_sizes_and_terms_are_the_manifests(tmp_path: Path) -> None:
    folder = ROOT / "android_assets/selfie_general"
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    content = json.loads(listed.model_dump_json())
    for entry in content["files"]:
        entry["input"]["shape"][1:3] = [96, 64]
    content["source"]["data"] = [{"set": "s", "split": "train", "sha256_16": "0" * 16, "licence": "only on Sundays"}]
    text = _made(folder, tmp_path, Manifest.model_validate_json(json.dumps(content)))
    assert (
        "createScaledBitmap(small, 64, 96, true)" in text and "stretch it to 64×96" in text and "256, 256" not in text
    )
    assert "only on Sundays (s)" in text
    # no file with a bitmap's bytes as its input: no such section
    content["files"] = [entry for entry in content["files"] if entry["channels"] == "rgb"]
    assert "copyPixelsToBuffer" not in _made(folder, tmp_path, Manifest.model_validate_json(json.dumps(content)))
