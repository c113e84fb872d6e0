"""A file that a network is to do without: no failure, not published, and an earlier one of its name goes."""

from pathlib import Path

import numpy as np
import pytest

from export import stage
from export.product.parity import Bound, Reference
from export.product.product import Product, Unsuitable
from export.stage import Made
from export.targets import TARGETS
from portraitseg import manifest
from portraitseg.manifest import Source

NAME = "m-8x10-rgb-fp16acc16.tflite"
SOURCE = Source(
    model="m", config_sha256="0" * 64, git_commit="unknown", seed=0, weights_sha256="1" * 64, data=(), tools={}
)


def refuse(path: Path) -> None:
    """Written first and checked then, as the recipe does."""
    path.write_bytes(b"half")
    raise Unsuitable("half precision may overflow: ADD of layer 'x' can reach 1e+06, above 65504")


def test_left_out_is_no_fault(tmp_path: Path) -> None:
    product = Product(
        path=NAME,
        channels="rgb",
        recipe="fp16acc16",
        write=refuse,
        describe=lambda path: pytest.fail(f"{path} is described"),
        reference="float",
        bound=Bound(None, 1.0, 0.0),
    )
    nothing = Reference([], np.zeros((0, 8, 10), np.float32))
    made = stage._make(product, nothing, "m", tmp_path, TARGETS["android"])
    assert (made.entry, made.fault) == (None, None) and "may overflow" in (made.left_out or "")


def test_an_earlier_file_goes(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "files", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / NAME).write_bytes(b"old")
    (folder / "kept").write_bytes(b"kept")
    made = [Made(NAME, None, None, left_out="half precision may overflow")]
    result = stage.publish(made, SOURCE, folder, scratch, TARGETS["onnx"])
    assert result.files == ()
    assert sorted(path.name for path in folder.iterdir()) == ["kept", manifest.MANIFEST_NAME]
