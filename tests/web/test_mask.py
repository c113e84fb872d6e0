"""The page's arithmetic in node: docs/vectors.json, and further photos, against the Python reference."""

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitseg import contract, refine
from portraitseg.refine import EdgeRefiner
from portraitseg.synthetic.portraits import render
from tests.golden.write import VECTORS

SCRIPT = Path(__file__).with_name("vectors.mjs")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="NOT RUN: the page's masks against Python's: install Node.js 20 or later"
)


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    return json.loads(VECTORS.read_text())


def run(vectors: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a case → what node found: difference, tolerance, passed."""
    path = folder / "vectors.json"
    path.write_text(json.dumps(vectors))
    result = subprocess.run(["node", str(SCRIPT), str(path)], capture_output=True, text=True, timeout=120, check=True)
    return {case["name"]: case for case in json.loads(result.stdout)}


def failed(cases: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, case in cases.items() if not case["passed"]]


def test_the_page_says_what_python_says(vectors: dict[str, Any], tmp_path: Path) -> None:
    cases = run(vectors, tmp_path)
    assert failed(cases) == []
    assert len(cases) == 21
    # better than what is asked for: the fixed point of OpenCV's INTER_LINEAR is copied
    assert all(case["difference"] == 0 for name, case in cases.items() if name.startswith("shrink"))


def _change(section: str, key: str, by: float) -> Callable[[dict[str, Any]], None]:
    def change(vectors: dict[str, Any]) -> None:
        vectors[section][key] += by

    return change


def _swap_colours(vectors: dict[str, Any]) -> None:
    vectors["refine"]["inputs"] = np.array(vectors["refine"]["inputs"])[..., ::-1].tolist()


def _shift(vectors: dict[str, Any]) -> None:
    vectors["stretch"]["alpha"] = np.roll(vectors["stretch"]["alpha"], 1, axis=1).tolist()


def _darken(vectors: dict[str, Any]) -> None:
    case = vectors["shrink"]["cases"][0]
    case["resized"][3][4][1] -= 1


def _tie(vectors: dict[str, Any]) -> None:
    vectors["ties"]["byte"][vectors["ties"]["probability"].index(0.5)] = 128


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (_swap_colours, "coefficients"),
        (_shift, "stretch"),
        (_darken, "shrink 0 area"),
        (_tie, "ties byte"),
        (_change("refine", "radius", -1), "coefficients"),
        (_change("refine", "epsilon", 2e-4), "coefficients"),
        (_change("refine", "low", 0.05), "shaped"),
        (_change("smooth", "keep", -0.05), "smooth 1"),
        (_change("smooth", "reach", -1), "smooth 2"),
        (_change("smooth", "gap_s", 1.0), "smooth 4"),
        (_change("smooth", "cut", -0.19), "smooth 2"),
    ],
)
def test_a_mistake_is_noticed(
    change: Callable[[dict[str, Any]], None], noticed: str, vectors: dict[str, Any], tmp_path: Path
) -> None:
    changed = copy.deepcopy(vectors)
    change(changed)
    assert noticed in failed(run(changed, tmp_path))


def test_photos_of_any_size_shrink_to_the_very_bytes(vectors: dict[str, Any], tmp_path: Path) -> None:
    """INTER_AREA and INTER_LINEAR, whole factors and others, a side that grows, one pixel."""
    generator = np.random.default_rng(0)
    sizes = [(96, 128), (72, 96), (97, 130), (40, 300), (300, 40), (48, 64), (48, 200), (13, 17), (1, 1), (49, 65)]
    changed = copy.deepcopy(vectors)
    changed["shrink"] = {"size": [48, 64], "tolerance": {"any": 0}, "cases": []}
    for size in sizes:
        photo = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        resized = contract.resize_image(photo, (48, 64))
        changed["shrink"]["cases"].append({"method": "any", "photo": photo.tolist(), "resized": resized.tolist()})
    assert failed(run(changed, tmp_path)) == []


@pytest.mark.parametrize("index", [0, 1])
def test_portraits_with_specks_and_holes(index: int, vectors: dict[str, Any], tmp_path: Path) -> None:
    """A whole refinement at a photo's size, at which stray pieces are of many pixels."""
    image, alpha = render(index, (180, 135))
    probability = contract.bytes_to_float(contract.resize_image(alpha[..., None], (64, 48)))[..., 0]
    # a speck in the corner, a hole in the person
    probability[2:5, 2:5] = 0.9
    y, x = np.argwhere(probability > 0.95)[200]
    probability[y : y + 2, x : x + 2] = 0.1
    inputs = contract.resize_image(image, (64, 48))
    refiner = EdgeRefiner(side=32, radius=2, epsilon=1e-3, specks=0.01, holes=0.01)
    made = refine.coefficients(inputs, probability, 32, 2, 1e-3, 0.01)
    rough = refine.apply(made, image)
    mask = refiner(image, probability) > contract.PROBABILITY_THRESHOLD
    # it is about something: cleaning changes the mask
    assert (mask != (refine.shape(rough, 0.1, 0.9) > contract.PROBABILITY_THRESHOLD)).any()
    changed = copy.deepcopy(vectors)
    changed["refine"] |= {
        "side": 32,
        "specks": 0.01,
        "holes": 0.01,
        "photo": image.tolist(),
        "inputs": inputs.tolist(),
        "probability": probability.tolist(),
        "coefficients_with_specks": refine.coefficients(inputs, probability, 32, 2, 1e-3).tolist(),
        "coefficients": made.tolist(),
        "alpha": rough.tolist(),
        "shaped": refine.shape(rough, 0.1, 0.9).tolist(),
        "mask": mask.astype(int).tolist(),
    }
    cases = run(changed, tmp_path)
    assert failed(cases) == []
    assert cases["mask"]["difference"] == 0
