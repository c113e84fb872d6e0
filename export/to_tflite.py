"""TFLite files for Android, from every recipe, for RGB and RGBA camera frames."""

from functools import partial
from pathlib import Path
from typing import Any

from export.check_int8 import check_int8
from export.product import Networks, Product, describe_with_runner
from export.recipes import RECIPES, Calibration, Recipe
from export.widen import rgba_twin
from portraitseg.contract import Channels


def tflite_products(networks: Networks) -> list[Product]:
    """The files for Android: every recipe whose Keras model exists, RGB before its RGBA twin."""
    twins: dict[str, Any] = {}
    products = []
    for name, recipe in RECIPES.items():
        model = networks.get(recipe.reference)
        if model is None:
            continue
        if recipe.reference not in twins:
            twins[recipe.reference] = rgba_twin(model)
        rgb = file_name(networks, "rgb", name)
        rgba = file_name(networks, "rgba", name)
        calibration = networks.calibration
        products += [
            _product(rgb, "rgb", name, recipe, model, calibration),
            _product(rgba, "rgba", name, recipe, twins[recipe.reference], calibration, rgb_twin=rgb),
        ]
    return products


def file_name(networks: Networks, channels: Channels, recipe: str) -> str:
    """`<model>-<H>x<W>-<channels>-<recipe>.tflite`."""
    height, width = networks.size
    return f"{networks.name}-{height}x{width}-{channels}-{recipe}.tflite"


def write_tflite(path: Path, recipe: Recipe, model: Any, calibration: Calibration) -> None:
    """Converts a model and writes the file.

    Raises:
        CheckFailed: an int8 recipe that left something float.
    """
    content = recipe.convert(model, calibration)
    if recipe.is_int8:
        check_int8(content, path.name)
    path.write_bytes(content)


def _product(
    path: str,
    channels: Channels,
    name: str,
    recipe: Recipe,
    model: Any,
    calibration: Calibration,
    rgb_twin: str | None = None,
) -> Product:
    return Product(
        path=path,
        channels=channels,
        recipe=name,
        write=partial(write_tflite, recipe=recipe, model=model, calibration=calibration),
        describe=describe_with_runner,
        reference=recipe.reference,
        bound=recipe.bound,
        rgb_twin=rgb_twin,
    )
