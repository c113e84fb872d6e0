"""The exported files of the tiny trained network, shared by all tests: converting takes seconds."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.formats.to_coreml import coreml_products
from export.formats.to_onnx import onnx_products
from export.formats.to_tflite import tflite_products
from export.product import parity
from export.product.product import Networks, Product, Unsuitable
from tests.export import tiny


@dataclass(frozen=True)
class Exported:
    """All files of the tiny network in one folder."""

    folder: Path
    products: dict[str, Product]
    references: dict[str, parity.Reference]

    def find(self, end: str) -> tuple[Product, Path]:
        """The product whose name ends so, and its file."""
        name = next(name for name in self.products if name.endswith(end))
        return self.products[name], self.folder / name


@pytest.fixture(scope="session")
def networks(float_model: Any, qat_model: Any, calibration: np.ndarray) -> Networks:
    return Networks(float_model, qat_model, calibration, run="tiny", licence="Apache-2.0")


@pytest.fixture(scope="session")
def exported(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    products = [*tflite_products(networks), *coreml_products(networks), *onnx_products(networks)]
    for product in products:
        # half precision is only for networks that bear it; the file is there all the same
        with suppress(Unsuitable):
            product.write(folder / product.path)
    photos = tiny.samples(8, first=200)[0]
    references = {
        "float": parity.predict_keras(networks.float_model, photos),
        "qat": parity.predict_keras(networks.qat_model, photos),
    }
    return Exported(folder, {product.path: product for product in products}, references)
