"""Core ML packages for iOS: camera image in, grayscale image out, so that Vision hands both over as pixel buffers."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from export.parity import Bound
from export.product import Networks, Product, input_tensor, output_tensor
from export.quiet import quiet
from portraitseg import contract
from portraitseg.manifest import Tensor

#: The output is an image of bytes: half a step of 1/255 beside the float16 arithmetic. Measured max 0.011 at 64 px.
FP16_IMAGE = Bound(0.03, 4e-3, 0.995)

#: Away from macOS the runner evaluates the saved program itself.
_NOTE = "iOS 15 or later" + (
    ""
    if sys.platform == "darwin"
    else "; parity by this project's evaluator of the saved program, not by Core ML itself"
)


def coreml_products(networks: Networks) -> list[Product]:
    """The files for iOS. From the float weights: of the QAT graph dozens of clip and round operators would remain."""
    height, width = networks.size
    return [
        Product(
            path=f"{networks.name}-{height}x{width}-fp16.mlpackage",
            channels="rgb",
            recipe="fp16",
            write=partial(write_coreml, networks=networks),
            describe=describe_coreml,
            reference="float",
            bound=FP16_IMAGE,
            note=_NOTE,
        )
    ]


def write_coreml(path: Path, networks: Networks) -> None:
    """Writes an ML program (iOS 15) of float16: `image` RGB bytes → `mask` grayscale bytes, 255 is person."""
    with quiet():
        model = _convert(networks)
        model.author = "portraitseg"
        model.license = f"code and network Apache-2.0; weights trained on photos under: {networks.licence}"
        model.short_description = f"Portrait segmentation, {networks.name} of run {networks.run}: probability of person"
        model.version = networks.run
        model.input_description["image"] = "RGB photo, stretched to the network's size (Vision: scaleFill)"
        model.output_description["mask"] = "probability of person, 0 to 255"
        model.save(str(path))


def describe_coreml(path: Path) -> tuple[Tensor, Tensor]:
    """Reads input and output from the package's description, which works away from macOS too."""
    import coremltools as ct

    from portraitseg.runners import coreml

    source, mask, _, _ = coreml.describe(path, ct.utils.load_spec(str(path)).description)
    return input_tensor(source, "rgb", is_image=True), output_tensor(mask, is_image=True)


def _convert(networks: Networks) -> Any:
    import coremltools as ct
    import tensorflow as tf

    spec = tf.TensorSpec((1, *networks.size, 3), tf.float32, name="image")

    @tf.function(input_signature=[spec])
    def to_image(image: Any) -> Any:
        # a grayscale image output is (1, 1, h, w) of 0…255; the output type takes no scale, so the graph scales. The
        # last operator carries the name: an Identity would be folded away before coremltools looks for it.
        return tf.transpose(networks.float_model(image, training=False) * 255.0, [0, 3, 1, 2], name="mask")

    return ct.convert(
        [to_image.get_concrete_function()],
        source="tensorflow",
        convert_to="mlprogram",
        inputs=[
            ct.ImageType(
                name="image", shape=spec.shape.as_list(), scale=contract.INPUT_SCALE, color_layout=ct.colorlayout.RGB
            )
        ],
        outputs=[ct.ImageType(name="mask", color_layout=ct.colorlayout.GRAYSCALE)],
        compute_precision=ct.precision.FLOAT16,
        minimum_deployment_target=ct.target.iOS15,
        # loading the model back would compile it, on macOS only
        skip_model_load=True,
    )
