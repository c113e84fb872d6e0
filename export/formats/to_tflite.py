"""TFLite files for Android, from every recipe, for RGB and RGBA camera frames."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from export.formats.rgba import rgba_twin
from export.product.product import Networks, Product, describe_with_runner
from export.quantization.check_int8 import check_int8
from export.quantization.recipes import RECIPES, Calibration, Recipe
from portraitseg import manifest
from portraitseg.contract import Channels
from portraitseg.runs import Run
from portraitseg.tflite.metadata import Card, attach


def tflite_products(networks: Networks) -> list[Product]:
    """The files for Android: every recipe whose Keras model exists, RGB before its RGBA twin, if any."""
    products = []
    converted: dict[str, bytes] = {}
    version, scores = _weights_facts(networks.run)
    for name, recipe in RECIPES.items():
        model = networks.get(recipe.reference)
        if model is None:
            continue
        rgb = file_name(networks, "rgb", name)
        card = partial(Card, networks.name, version, networks.licence, name, scores=scores.get(recipe.reference, ""))
        convert = partial(_convert_once, converted, name, recipe, model, networks.calibration)
        products.append(_product(rgb, recipe, convert, card("rgb"), networks.calibration))
        if "rgba" not in recipe.channels:
            continue
        rgba = file_name(networks, "rgba", name)
        products.append(_product(rgba, recipe, convert, card("rgba"), networks.calibration, rgb_twin=rgb))
    return products


def file_name(networks: Networks, channels: Channels, recipe: str) -> str:
    """`<model>-<H>x<W>-<channels>-<recipe>.tflite`."""
    height, width = networks.size
    return f"{networks.name}-{height}x{width}-{channels}-{recipe}.tflite"


def write_tflite(
    path: Path, recipe: Recipe, convert: Callable[[], bytes], card: Card, calibration: Calibration
) -> None:
    """Converts a model and writes the file, with its metadata; for RGBA, the file for RGB with a fourth channel.

    Args:
        convert: makes the content, for RGB.
        calibration: photos for the recipe's own check.

    Raises:
        CheckFailed: an integer recipe that left something float, or a network that cannot be given a fourth channel.
        Unsuitable: a network that is to do without this recipe.
    """
    content = convert()
    if card.channels == "rgba":
        content = rgba_twin(content)
    if recipe.integer is not None:
        check_int8(content, path.name, recipe.integer)
    path.write_bytes(attach(content, card))
    if recipe.check is not None:
        recipe.check(path, calibration)


def _convert_once(
    converted: dict[str, bytes], name: str, recipe: Recipe, model: Any, calibration: Calibration
) -> bytes:
    """The content of a recipe; both twins are made of the same bytes."""
    if name not in converted:
        converted[name] = recipe.convert(model, calibration)
    return converted[name]


def _weights_facts(run: str) -> tuple[str, dict[str, str]]:
    """Version of a run's weights and, by reference, the score of its Keras model; of a run without record, nothing."""
    path = Run(run).artifact
    if not path.exists():
        return "unversioned", {}
    artifact = manifest.read(manifest.Artifact, path)
    scores = {}
    for reference, stage in (("float", "train"), ("qat", "qat")):
        iou = artifact.stages.get(stage, {}).get("best_val_iou")
        if isinstance(iou, float):
            scores[reference] = f"IoU {iou:.4f} on val in training"
    return artifact.source.weights_sha256[:12], scores


def _product(
    path: str,
    recipe: Recipe,
    convert: Callable[[], bytes],
    card: Card,
    calibration: Calibration,
    rgb_twin: str | None = None,
) -> Product:
    return Product(
        path=path,
        channels=card.channels,
        recipe=card.recipe,
        write=partial(write_tflite, recipe=recipe, convert=convert, card=card, calibration=calibration),
        describe=describe_with_runner,
        reference=recipe.reference,
        bound=recipe.bound,
        rgb_twin=rgb_twin,
    )
