"""The targets by name: which files they make, where these go, and which file is for which device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.product import Networks, Product
from export.to_coreml import coreml_products
from export.to_onnx import onnx_products
from export.to_tflite import tflite_products
from portraitseg.runs import Run


@dataclass(frozen=True)
class Target:
    """One line of the registry.

    Attributes:
        folder: of a run's files.
        products: the files, RGB before the RGBA twin that is compared with it.
        recommended: device class → end of the name of the file to take; the first that exists.
        is_gpu_checked: whether its files are for a GPU delegate that can be asked.
        needs_qat: False: its files compute in float, so that no quantization-aware training is begun for them; where
            one is finished, its weights may be the better ones.
    """

    folder: Callable[[Run], Path]
    products: Callable[[Networks], list[Product]]
    recommended: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_gpu_checked: bool = False
    needs_qat: bool = True


TARGETS: dict[str, Target] = {
    "android": Target(
        folder=lambda run: run.android,
        products=tflite_products,
        recommended={
            # int8 runs on a GPU as float with emulated rounding: its accuracy at float's speed
            "gpu": ("-rgb-fp16.tflite",),
            "cpu": ("-rgb-qat_wi8_ai8.tflite", "-rgb-static_wi8_ai8.tflite"),
            "old": ("-rgb-fp16.tflite",),
        },
        is_gpu_checked=True,
    ),
    "ios": Target(
        folder=lambda run: run.ios,
        products=coreml_products,
        # the compressed ones are computed in float16 too: they save download, not time
        recommended={"gpu": ("-fp16.mlpackage",), "cpu": ("-fp16.mlpackage",), "old": ("-fp16.mlmodel",)},
        needs_qat=False,
    ),
    "onnx": Target(folder=lambda run: run.onnx, products=onnx_products),
}
