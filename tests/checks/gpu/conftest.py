"""The files that the GPU check is tried on, and the driver to run them on: SwiftShader where it is there."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from export.quantization.recipes import RECIPES
from portraitseg.checks.gpu.driver import Driver, find_drivers
from portraitseg.errors import InputError
from tests.checks.gpu import zoo
from tests.export import tiny
from tests.outside import skip_loudly


def installed(what: str, route: ModuleType) -> None:
    """Installs what a route needs, from its own lock; where that fails or something else is missing, skips loudly."""
    try:
        route.install()
    except InputError as error:
        skip_loudly(what, str(error))
    if reason := route.missing():
        skip_loudly(what, reason)


@pytest.fixture(scope="session")
def driver() -> Driver:
    """SwiftShader, or another driver that computes in 32 bits; without one the runs are skipped, and said so."""
    drivers = {driver.route: driver for driver in find_drivers()}
    if "litert_swiftshader" not in drivers:
        skip_loudly("ON A GPU", "there is no driver: `make gpu-driver` fetches SwiftShader without root")
    return drivers["litert_swiftshader"]


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    contents = {**{name: animal.content for name, animal in zoo.BROKEN.items()}, **zoo.SOUND}
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content())
    return folder


@pytest.fixture(scope="session")
def our_files(
    float_model: Any, qat_model: Any, calibration: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The tiny network at 64×64, trained for some seconds: recipe → file."""
    folder = tmp_path_factory.mktemp("ours")
    models = {"float": float_model, "qat": qat_model}
    paths = {}
    for name in ("fp32", "fp16", "dynamic_wi8_afp32", "qat_wi8_ai8"):
        recipe = RECIPES[name]
        paths[name] = folder / f"tiny-64x64-rgb-{name}.tflite"
        paths[name].write_bytes(recipe.convert(models[recipe.reference], calibration))
    return paths


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    return tiny.samples(3, first=300)[0]
