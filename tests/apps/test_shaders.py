"""The shaders of apps/android draw what docs/vectors.json says: AGSL in Skia, GLSL in WebGL2.

Both languages are the same there as on Android; a phone's drivers and its half precision are not.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apps import jvm

SHADERS = jvm.ANDROID / "shaders"
CANVASKIT = jvm.TOOLS / "node_modules/canvaskit-wasm/bin/canvaskit.js"

#: Steps of 1/255: half of one is the picture's byte, the rest coefficients of half precision (measured: 0.51 and 0.07).
MOST, MEAN = 2, 0.15

BACKGROUND = (255, 0, 128)


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    case = json.loads((jvm.ROOT / "docs/vectors.json").read_text())["refine"]
    photo = np.array(case["photo"], np.uint8)
    height, width = photo.shape[:2]
    values = np.array(case["coefficients"], np.float32)
    return {
        "frame": {"width": width, "height": height, "rgba": _rgba(photo).ravel().tolist()},
        "background": np.tile(np.array([*BACKGROUND, 255]), height * width).tolist(),
        "coefficients": {
            "width": values.shape[1],
            "height": values.shape[0],
            "values": values.ravel().tolist(),
            "halves": values.astype(np.float16).view(np.uint16).ravel().tolist(),
        },
        "low": case["low"],
        "high": case["high"],
        "shaped": case["shaped"],
    }


def _rgba(photo: np.ndarray) -> np.ndarray:
    return np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])


def _differences(given: dict[str, Any], drawn: list[int]) -> np.ndarray:
    alpha = np.array(given["shaped"])[..., None]
    photo = np.array(given["frame"]["rgba"]).reshape(*alpha.shape[:2], 4)[..., :3]
    expected = photo * alpha + np.array(BACKGROUND) * (1 - alpha)
    return np.abs(np.array(drawn).reshape(*alpha.shape[:2], 4)[..., :3] - expected)


def _agsl(given: dict[str, Any], source: Path, folder: Path) -> list[int]:
    if shutil.which("node") is None or not CANVASKIT.exists():
        pytest.skip("AGSL not run: no Node.js, or no Skia in .cache/kotlin (make apps-tools)")
    case = folder / "case.json"
    case.write_text(json.dumps(given))
    command = ["node", str(jvm.ANDROID / "tests/agsl.mjs"), str(CANVASKIT), str(source), str(case)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    pixels: list[int] = json.loads(result.stdout)
    return pixels


def _glsl(given: dict[str, Any], source: str, folder: Path) -> list[int]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("GLSL not run: no Chromium")
    page = folder / "page.html"
    text = (jvm.ANDROID / "tests/frag.html").read_text(encoding="utf-8")
    page.write_text(text.replace("SOURCE;", f"{json.dumps(source)};").replace("= CASE,", f"= {json.dumps(given)},"))
    command = [browser, "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    result = subprocess.run(
        [*command, f"--user-data-dir={folder}/profile", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    (output,) = re.findall(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert output.startswith("["), output
    pixels: list[int] = json.loads(output)
    return pixels


@pytest.mark.full
def test_agsl(given: dict[str, Any], tmp_path: Path) -> None:
    differences = _differences(given, _agsl(given, SHADERS / "matte.agsl", tmp_path))
    assert differences.max() <= MOST and differences.mean() <= MEAN, (differences.max(), differences.mean())


@pytest.mark.full
def test_glsl(given: dict[str, Any], tmp_path: Path) -> None:
    source = (SHADERS / "matte.frag").read_text(encoding="utf-8")
    differences = _differences(given, _glsl(given, source, tmp_path))
    assert differences.max() <= MOST and differences.mean() <= MEAN, (differences.max(), differences.mean())


@pytest.mark.full
def test_a_shader_that_is_half_a_pixel_off_is_found(given: dict[str, Any], tmp_path: Path) -> None:
    text = (SHADERS / "matte.agsl").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.agsl"
    wrong.write_text(text.replace("at * scale - 0.5", "at * scale"))
    differences = _differences(given, _agsl(given, wrong, tmp_path))
    assert differences.max() > 2 * MOST
