"""The runs that are committed in android_assets/ and ios_assets/ are what was exported, and small enough."""

import json
import subprocess
from pathlib import Path

import cv2
import pytest

from export.publishing import golden
from export.stage import GPU_GATED
from portraitseg import contract, files, manifest
from portraitseg.data import hash_keys
from portraitseg.manifest import RECOMMENDED_NAME, Manifest
from portraitseg.models import checkpoint
from portraitseg.runners import open_runner
from train.weights.terms import of_weights

COMMITTED = sorted(
    {
        Path(*Path(name).parts[:2])
        for name in subprocess.run(
            ["git", "ls-files", "android_assets/*/manifest.json", "ios_assets/*/manifest.json"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    }
)


@pytest.mark.parametrize("folder", COMMITTED, ids=str)
def test_a_released_run_is_whole(folder: Path) -> None:
    assert golden.check(folder) > 0
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    paths = {entry.path for entry in listed.files}
    recommended = json.loads((folder / RECOMMENDED_NAME).read_text())
    assert set(recommended) == {"gpu", "cpu", "old"} and set(recommended.values()) <= paths
    assert not any(entry.recipe == "fp32" for entry in listed.files)
    # measured on the exported file, or not released
    assert all(entry.quality for entry in listed.files)


@pytest.mark.parametrize("folder", [path for path in COMMITTED if path.parts[0] == "android_assets"], ids=str)
def test_what_is_gated_on_the_gpu_ran_on_a_driver(folder: Path) -> None:
    """An export on a machine without one is not refused: its rules judged."""
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    gated = [entry for entry in listed.files if entry.recipe in GPU_GATED]
    assert len(gated) == 4
    for entry in gated:
        verdicts = {check.route: check.verdict for check in entry.gpu}
        assert verdicts["litert_swiftshader"] == "passed", entry.path


@pytest.mark.parametrize("folder", COMMITTED, ids=str)
def test_a_released_run_has_its_weights(folder: Path) -> None:
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    weights = {files.sha256(path): path for path in Path("weights").glob("*.h5")}
    assert listed.source.weights_sha256 in weights
    assert checkpoint.read_header(weights[listed.source.weights_sha256]).name == listed.source.model


def test_the_repository_is_small() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    sizes = {name: Path(name).stat().st_size for name in tracked if name and Path(name).is_file()}
    assert not {name: size for name, size in sizes.items() if size > 8_000_000}
    assert sum(size for name, size in sizes.items() if name.startswith("weights/")) < 30_000_000


def test_every_weight_file_has_its_card_and_is_of_a_network_of_ours() -> None:
    card = Path("weights/README.md").read_text(encoding="utf-8")
    for path in sorted(Path("weights").glob("*.h5")):
        assert f"`{path.name}`" in card
        header = checkpoint.read_header(path)
        name, size, *_ = path.stem.split("-")
        assert header.name == name and size == f"{header.size[0]}x{header.size[1]}"


def test_every_weight_file_says_what_binds_it() -> None:
    """Of three nothing did: who began with them was told that the licence is unknown."""
    for path in sorted(Path("weights").glob("*.h5")):
        # those of quantization cannot be begun with
        if not path.stem.endswith("-qat"):
            assert all(item.licence != "unknown" for item in of_weights(path)), path.name


def test_the_lists_of_photos_are_those_of_the_cards() -> None:
    stored = json.loads(Path("weights/splits.json").read_text(encoding="utf-8"))
    assert {split: hash_keys(keys) for split, keys in stored["splits"].items()} == stored["sha256_16"]
    card, measures = (Path(name).read_text(encoding="utf-8") for name in ("weights/README.md", "docs/metrics.md"))
    for split, keys in stored["splits"].items():
        assert f"{len(keys):,}" in measures
        # of photos without masks the card has the list of the whole training
        assert stored["sha256_16"][split] in card or split in ("unlabelled", "test_eg1800", "test_lmi")
    # what each network learnt from: contour from the list of its last part, MediaPipe's own from portraits that we draw
    lists = {
        "contour": hash_keys([*stored["splits"]["train"], *stored["splits"]["unlabelled"]]),
        "selfie_photos": stored["sha256_16"]["train_and_soft"],
    }
    for folder in COMMITTED:
        source = manifest.read(Manifest, folder / manifest.MANIFEST_NAME).source
        if folder.name.startswith("selfie_general"):
            assert {item.set for item in source.data} == {"synthetic"}
            continue
        (expected,) = (listed for name, listed in lists.items() if folder.name.startswith(name))
        # its float network taught int8 on more photos than it had learnt from
        if folder == Path("android_assets/selfie_photos_large"):
            expected = hash_keys([*stored["splits"]["train_and_soft"], *stored["splits"]["soft_rest"]])
        assert {item.sha256_16 for item in source.data} == {expected}
    for line in Path("benchmark/results/contour.csv").read_text(encoding="utf-8").splitlines()[1:]:
        (split,) = (name for name in ("val", "test_eg1800", "test_lmi") if f",{name}," in line)
        assert f",{stored['sha256_16'][split]}," in line


@pytest.mark.parametrize("folder", [path for path in COMMITTED if path.parts[0] == "android_assets"], ids=str)
def test_golden_masks_are_person_where_the_contract_says_so(folder: Path) -> None:
    """A byte of 128 for exactly one half had used up the whole tolerance of contour_small's int8 file: 1.05 %."""
    portrait = cv2.cvtColor(cv2.imread(str(folder / "golden/portrait.png")), cv2.COLOR_BGR2RGB)
    size = portrait.shape[:2]
    for path in sorted(folder.glob("*.tflite")):
        probability = open_runner(path).predict(portrait)
        mask = contract.truth_to_mask(cv2.imread(str(folder / f"golden/{path.name}.png"), cv2.IMREAD_GRAYSCALE))
        ties = (probability == contract.PROBABILITY_THRESHOLD).mean()
        # kernels of another processor may move single pixels; a tie on the wrong side moves all of them
        flipped = (mask != contract.probability_to_mask(probability, size)).mean()
        assert flipped < 0.001, f"{path.name}: {flipped:.2%}, of {ties:.2%} ties"
