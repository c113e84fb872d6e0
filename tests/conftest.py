"""Fixtures that several packages' tests share."""

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.outside import pytest_terminal_summary  # noqa: F401 (a hook)

# a machine that trains in the background misses any deadline now and then
settings.register_profile("portraitseg", deadline=None)
settings.load_profile("portraitseg")

# what a shell starts with & ignores Ctrl-C, and hands that on to the processes in which tests press it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Unchecked:
    """Keeps the checks of shapes while tests run (pyproject.toml) from what draws portraits.

    One portrait calls its small functions some hundred times, and checking them doubled the time of drawing. What it
    returns is checked where it is called.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, path, target) if name.startswith("portraitseg.synthetic.") else None


sys.meta_path.insert(0, Unchecked)  # type: ignore[arg-type] (a class with the method is one)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four portraits of 24×16 pixels with masks, in two splits."""
    from tests.data.bad_cases import write_photos

    folder = tmp_path / "DATA"
    write_photos(folder)
    return folder


# ---- one tiny trained network and its QAT form; imports wait for who asks, as most tests need no TensorFlow


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Where xdist's workers find what one of them has made."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Nobody else makes what is to lie there."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Any], load: Callable[[Path], Any]) -> Any:
    """A Keras model that one of xdist's workers makes and the others read: training takes seconds."""
    from portraitseg.models import checkpoint
    from tests.export import tiny

    path = shared_folder(factory) / name
    with tiny.registered(), one_at_a_time(path):
        if path.exists():
            return load(path)
        model = make()
        checkpoint.save(model, path)
        return model


@pytest.fixture(scope="session")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from portraitseg.models import checkpoint
    from tests.export import tiny

    return _made_once(tmp_path_factory, "float.h5", lambda: tiny.trained_model(tiny.NAME, (64, 64)), checkpoint.load)


@pytest.fixture(scope="session")
def calibration() -> np.ndarray:
    from tests.export import tiny

    return tiny.stack_inputs(tiny.samples(32, first=100)[0], (64, 64))


@pytest.fixture(scope="session")
def qat_model(float_model: Any, calibration: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from export.quantization import qat

    def make() -> Any:
        model = qat.quantize(float_model)
        qat.calibrate(model, float_model, calibration)
        return model

    return _made_once(tmp_path_factory, "qat.h5", make, qat.load_qat)
