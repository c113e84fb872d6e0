"""Fixtures that several packages' tests share."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.data.bad_cases import write_photos
from tests.outside import pytest_terminal_summary  # noqa: F401 (a hook)

# a machine that trains in the background misses any deadline now and then
settings.register_profile("portraitseg", deadline=None)
settings.load_profile("portraitseg")

# what a shell starts with & ignores Ctrl-C, and hands that on to the processes in which tests press it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four portraits of 24×16 pixels with masks, in two splits."""
    folder = tmp_path / "DATA"
    write_photos(folder)
    return folder


# ---- one tiny trained network and its QAT form; imports wait for who asks, as most tests need no TensorFlow


@pytest.fixture(scope="session")
def float_model() -> Any:
    from tests.export import tiny

    return tiny.trained_model("fast_scnn_w050", (64, 64))


@pytest.fixture(scope="session")
def calibration() -> np.ndarray:
    from tests.export import tiny

    return tiny.stack_inputs(tiny.samples(32, first=100)[0], (64, 64))


@pytest.fixture(scope="session")
def qat_model(float_model: Any, calibration: np.ndarray) -> Any:
    from export.quantization import qat

    model = qat.quantize(float_model)
    qat.calibrate(model, float_model, calibration)
    return model
