"""The exported files of the tiny trained network, shared by all tests: converting takes seconds."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.formats.to_coreml import coreml_products
from export.formats.to_onnx import onnx_products
from export.formats.to_tflite import tflite_products
from export.product import parity
from export.product.product import Networks, Product, Unsuitable
from tests.conftest import one_at_a_time, shared_folder
from tests.export import tiny


@dataclass(frozen=True)
class Exported:
    """All files of the tiny network in one folder, each made when one of xdist's workers asks for it first."""

    folder: Path
    products: dict[str, Product]
    networks: Networks

    def find(self, end: str) -> tuple[Product, Path]:
        """The product whose name ends so, and its file."""
        product = next(self.products[name] for name in self.products if name.endswith(end))
        path = self.folder / product.path
        with one_at_a_time(path):
            if not path.exists():
                # half precision is only for networks that bear it; the file is there all the same
                with suppress(Unsuitable):
                    product.write(path)
        return product, path

    @cached_property
    def references(self) -> dict[str, parity.Reference]:
        photos = tiny.samples(8, first=200)[0]
        return {
            "float": parity.predict_keras(self.networks.float_model, photos),
            "qat": parity.predict_keras(self.networks.qat_model, photos),
        }


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    """The tiny network is one of `MODELS` for these tests."""
    with tiny.registered():
        yield


@pytest.fixture(scope="session")
def networks(float_model: Any, qat_model: Any, calibration: np.ndarray) -> Networks:
    return Networks(float_model, qat_model, calibration, run="tiny", licence="Apache-2.0")


@pytest.fixture(scope="session")
def exported(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    products = [*tflite_products(networks), *coreml_products(networks), *onnx_products(networks)]
    folder = shared_folder(tmp_path_factory) / "exported"
    folder.mkdir(exist_ok=True)
    return Exported(folder, {product.path: product for product in products}, networks)
