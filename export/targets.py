"""The targets by name: which files they make, where these go, and which file is for which device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.formats.to_coreml import VARIANTS, coreml_products
from export.formats.to_onnx import ONNX_RECIPES, onnx_products
from export.formats.to_tflite import tflite_products
from export.product.parity import Bound
from export.product.product import PARITY_REFERENCE, Networks, Product, ReferenceName
from export.quantization.recipes import RECIPES
from portraitseg.errors import InputError
from portraitseg.manifest import FileEntry
from portraitseg.runs import Run

#: Which Keras model a file comes from, and how far it may be from it.
Expected = tuple[ReferenceName, Bound]


@dataclass(frozen=True)
class Target:
    """One line of the registry.

    Attributes:
        folder: of a run's files.
        products: the files, RGB before the RGBA twin that is compared with it.
        expected: of a file, what `expected` says; None of other targets' files.
        recipes: every recipe that it knows → the Keras model that is converted.
        released: those that `recommended.json` can name, and bytes in and out; the others are for tables.
        kept: others that a release keeps where an export was asked for them.
        post_training: what stands in for a recipe of quantization-aware training where there is to be none.
        recommended: device class → end of the name of the file to take; the first that exists.
        is_gpu_checked: whether its files are for a GPU delegate that can be asked.
        needs_qat: False: its files compute in float, so that no quantization-aware training is begun for them; where
            one is finished, its weights may be the better ones.
    """

    folder: Callable[[Run], Path]
    products: Callable[[Networks], list[Product]]
    expected: Callable[[FileEntry], Expected | None]
    recipes: Mapping[str, ReferenceName]
    released: tuple[str, ...]
    kept: tuple[str, ...] = ()
    post_training: Mapping[str, str] = field(default_factory=dict)
    recommended: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_gpu_checked: bool = False
    needs_qat: bool = True

    def choose(self, asked: Sequence[str], with_qat: bool = True) -> frozenset[str]:
        """The recipes whose files are made.

        Args:
            asked: `export.recipes`; what only other targets know is passed over.
            with_qat: False: without those of quantization-aware training.

        Raises:
            InputError: a word that no target knows, or nothing left for this one.
        """
        groups = {"all": tuple(self.recipes), "released": self.released}
        known = {name for target in TARGETS.values() for name in target.recipes}
        if unknown := [name for name in asked if name not in groups and name not in known]:
            listed = ", ".join(["released", "all", *sorted(known)])
            raise InputError(f"export.recipes: unknown recipe '{unknown[0]}' (known: {listed})")
        named = [name for word in asked for name in groups.get(word, (word,)) if name in self.recipes]
        if not with_qat:
            named = [self.post_training.get(name, name) for name in named]
        chosen = frozenset(name for name in named if with_qat or self.recipes[name] != "qat")
        if not chosen:
            raise InputError(
                f"export.recipes: {', '.join(asked)}: none is for this target (it has: {', '.join(self.recipes)})"
            )
        return chosen


def _expected_coreml(entry: FileEntry) -> Expected | None:
    reference: ReferenceName = "unwrapped" if entry.parity.reference == PARITY_REFERENCE["unwrapped"] else "float"
    bounds = (variant.bound for end, variant in VARIANTS.items() if entry.path.endswith(f"-{end}"))
    return next(((reference, bound) for bound in bounds), None)


TARGETS: dict[str, Target] = {
    "android": Target(
        folder=lambda run: run.exports["android"],
        products=tflite_products,
        expected=lambda entry: (
            (recipe.reference, recipe.bound)
            if entry.path.endswith(".tflite") and (recipe := RECIPES.get(entry.recipe))
            else None
        ),
        recipes={name: recipe.reference for name, recipe in RECIPES.items()},
        released=("fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8"),
        kept=("fp16acc16",),
        post_training={"qat_wi8_ai8": "static_wi8_ai8", "qat_wi8_ai8_u8": "static_wi8_ai8_u8"},
        recommended={
            # int8 runs on a GPU as float with emulated rounding: its accuracy at float's speed
            "gpu": ("-rgb-fp16.tflite",),
            "cpu": ("-rgb-qat_wi8_ai8.tflite", "-rgb-static_wi8_ai8.tflite"),
            "old": ("-rgb-fp16.tflite",),
        },
        is_gpu_checked=True,
    ),
    "ios": Target(
        folder=lambda run: run.exports["ios"],
        products=coreml_products,
        expected=_expected_coreml,
        recipes={variant.recipe: "float" for variant in VARIANTS.values()},
        released=("fp16", "int8", "palette6"),
        # the compressed ones are computed in float16 too: they save download, not time
        recommended={"gpu": ("-fp16.mlpackage",), "cpu": ("-fp16.mlpackage",), "old": ("-fp16.mlmodel",)},
        needs_qat=False,
    ),
    "onnx": Target(
        folder=lambda run: run.exports["onnx"],
        products=onnx_products,
        expected=lambda entry: ONNX_RECIPES.get(entry.recipe) if entry.path.endswith(".onnx") else None,
        recipes={name: reference for name, (reference, _) in ONNX_RECIPES.items()},
        released=("fp32", "qdq"),
    ),
}


def expected(entry: FileEntry) -> Expected:
    """Which Keras model a file comes from, and how far it may be from it.

    Raises:
        InputError: a file of a recipe that no target makes any more.
    """
    for target in TARGETS.values():
        if file := target.expected(entry):
            return file
    raise InputError(f"{entry.path}: of recipe '{entry.recipe}', which is not made any more: export the run again")
