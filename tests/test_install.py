"""`pip install .` in an empty environment: the command, the files that come with it, and no TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from portraitseg.synthetic import portraits as synthetic

ROOT = Path(__file__).parents[1]


@pytest.mark.full
def test_a_photo_becomes_a_cutout_in_an_empty_environment(tmp_path: Path) -> None:
    """Needs a package index; takes about a minute."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python, script = (tmp_path / "env/bin" / name for name in ("python", "portraitseg"))
    # from what git knows, as a fresh clone is
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", clone], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "./clone"]
    subprocess.run(pip, check=True, cwd=tmp_path)
    Image.fromarray(synthetic.render(1, (400, 300))[0]).save(tmp_path / "me.jpg")
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [script, "segment", "me.jpg", "--out", "me.png", "--output", "cutout"], check=True, cwd=tmp_path, env=variables
    )
    with Image.open(tmp_path / "me.png") as cutout:
        alpha = cutout.getchannel("A")
        assert cutout.size == (300, 400) and alpha.getextrema() == (0, 255)
    code = (
        "import json, sys, portraitseg; from portraitseg import Segmenter; from portraitseg.segment import released\n"
        "found = {name: str(released.find(name)) for name in released.names()}\n"
        "print(json.dumps([portraitseg.__file__, found, sorted(sys.modules)]))"
    )
    result = subprocess.run(
        [python, "-c", code], check=True, cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    package, files, modules = json.loads(result.stdout)
    assert package.startswith(str(tmp_path / "env")) and len(files) >= 3
    assert all(path.startswith(str(tmp_path / "env")) for path in files.values())
    assert "tensorflow" not in modules
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
    )
    names = {item["name"].lower() for item in json.loads(listed.stdout)}
    assert not names & {"tensorflow", "tf-keras", "keras", "coremltools", "onnx", "onnxruntime", "av", "h5py", "scipy"}


def test_a_wheel_takes_along_what_is_released_and_nothing_that_the_user_exported() -> None:
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    patterns = tool["setuptools"]["package-data"]["portraitseg.released_files"]
    kept = subprocess.run(["git", "ls-files", "android_assets"], cwd=ROOT, check=True, capture_output=True, text=True)
    committed = {path.split("/")[1] for path in kept.stdout.split() if path.endswith("/manifest.json")}
    ends = ("manifest.json", "recommended.json", "*-rgb-qat_wi8_ai8.tflite")
    assert committed and sorted(patterns) == sorted(f"{name}/{end}" for name in committed for end in ends)


def test_the_light_dependencies_are_the_few_that_were_promised() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {line.split("=")[0].split("<")[0].split(">")[0].strip() for line in project["dependencies"]}
    assert named == {
        *("ai-edge-litert", "numpy", "opencv-python-headless", "pillow", "jaxtyping", "pydantic", "typer", "rich"),
    }
    assert {"train", "video", "heic", "all"} <= project["optional-dependencies"].keys()
