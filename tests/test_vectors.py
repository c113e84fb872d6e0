"""docs/vectors.json is what the Python reference says; the tests of other languages read the same file."""

import json
from typing import Any

import numpy as np
import pytest

from portraitseg import contract, refine
from portraitseg.smooth import MaskSmoother
from tests.golden import vectors
from tests.golden.write import VECTORS


@pytest.fixture(scope="module")
def committed() -> Any:
    return json.loads(VECTORS.read_text())


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_file_is_that_of_the_code(committed: Any) -> None:
    """To its own tolerances: another processor's float32 sums end in other digits."""
    made = json.loads(vectors.text())
    assert json.dumps(_shape(made)) == json.dumps(_shape(committed))
    for name in ("shrink", "ties"):
        assert made[name] == committed[name]
    for name in ("inputs", "mask"):
        assert made["refine"][name] == committed["refine"][name]
    for name in ("coefficients", "coefficients_with_specks", "alpha", "shaped"):
        np.testing.assert_allclose(made["refine"][name], committed["refine"][name], atol=1e-4)
    assert len(VECTORS.read_bytes()) < 1_000_000


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    return list(np.shape(value)) if isinstance(value, list) and not isinstance(value[0], dict) else type(value).__name__


def test_every_case_occurs(committed: Any) -> None:
    assert {case["method"] for case in committed["shrink"]["cases"]} == {"none", "area", "linear"}
    # the speck is taken away, and counts
    with_specks, before = (floats(committed["refine"][name]) for name in ("coefficients", "coefficients_with_specks"))
    assert (with_specks != before).any() and (with_specks[(with_specks != before).any(axis=2)] == 0).all()
    frames = committed["smooth"]["frames"]
    kept = [frame["smoothed"] == frame["probability"] for frame in frames]
    assert kept == [True, False, False, True, True]
    # where it moved, the third frame is as it is; elsewhere it is not
    moved = floats(frames[2]["smoothed"]) == floats(frames[2]["probability"])
    assert 0.02 < moved.mean() < 0.98
    assert committed["ties"]["uint8_file"]["person"] == [False, False, False, True, True]


def test_a_reader_of_the_file_gets_there(committed: Any) -> None:
    """From the numbers in the file alone, as another language does it."""
    case = committed["refine"]
    inputs, photo = np.array(case["inputs"], np.uint8), np.array(case["photo"], np.uint8)
    np.testing.assert_array_equal(contract.resize_image(photo, inputs.shape[:2]), inputs)
    solved = refine.coefficients(
        inputs, floats(case["probability"]), case["side"], case["radius"], case["epsilon"], case["specks"]
    )
    tolerance = case["tolerance"]
    np.testing.assert_allclose(solved, floats(case["coefficients"]), atol=tolerance["coefficients"])
    alpha = refine.apply(floats(case["coefficients"]), photo)
    np.testing.assert_allclose(alpha, floats(case["alpha"]), atol=tolerance["alpha"])
    smooth = committed["smooth"]
    smoother = MaskSmoother(**{key: smooth[key] for key in ("keep", "low", "high", "reach", "cut", "gap_s")})
    for frame in smooth["frames"]:
        smoothed = smoother(floats(frame["probability"]), frame["time_s"])
        np.testing.assert_allclose(smoothed, floats(frame["smoothed"]), atol=smooth["tolerance"])


def test_the_tolerances_notice_the_usual_mistakes(committed: Any) -> None:
    """Another order of channels, another window, corners aligned, another edge, no smooth step."""
    case = committed["refine"]
    inputs, photo = np.array(case["inputs"], np.uint8), np.array(case["photo"], np.uint8)
    probability, expected = floats(case["probability"]), floats(case["coefficients"])
    tolerance = case["tolerance"]

    def make(image: np.ndarray = inputs, radius: int = 2, epsilon: float = 1e-3) -> np.ndarray:
        return refine.coefficients(image, probability, case["side"], radius, epsilon, case["specks"])

    for wrong in (make(np.ascontiguousarray(inputs[..., ::-1])), make(radius=1), make(epsilon=1.2e-3)):
        assert np.abs(wrong - expected).max() > 2 * tolerance["coefficients"]
    alpha = floats(case["alpha"])
    shifted = np.roll(refine.apply(expected, photo), 1, axis=1)
    assert np.abs(shifted - alpha).mean() > 2 * tolerance["alpha_mean"]
    assert np.abs(refine.apply(expected, photo[..., ::-1]) - alpha).mean() > 2 * tolerance["alpha_mean"]
    smooth = committed["smooth"]
    frames = smooth["frames"][:3]
    for change in ({"keep": 0.85}, {"low": 0.05}, {"reach": 1}):
        settings = {key: smooth[key] for key in ("keep", "low", "high", "reach", "cut", "gap_s")} | change
        smoother = MaskSmoother(**settings)
        wrong = [smoother(floats(frame["probability"])) for frame in frames][-1]
        assert np.abs(wrong - floats(frames[-1]["smoothed"])).max() > 10 * smooth["tolerance"], change
