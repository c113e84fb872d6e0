"""Core ML files for iOS: camera image in, grayscale image out, so that Vision hands both over as pixel buffers.

All come from a float network: of a QAT graph dozens of clip and round operators would remain. Its weights are the float
ones, or those of quantization-aware training, whichever is better on `val` (`export.quantization.unwrap`).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from export.formats.ios13 import to_ios13
from export.product.parity import Bound
from export.product.product import Networks, Product, input_tensor, output_tensor
from export.product.quiet import quiet
from portraitseg import contract
from portraitseg.errors import CheckFailed
from portraitseg.manifest import Tensor

#: Steps of Lloyd's algorithm; the palettes of Fast-SCNN stop moving after 20 to 40.
_LLOYD_STEPS = 50

#: What Xcode's preview needs to know of a mask. From Apple's "Xcode Model Preview Types" in the coremltools guide.
PREVIEW = {
    "com.apple.coreml.model.preview.type": "imageSegmenter",
    "com.apple.coreml.model.preview.parameters": json.dumps(
        {"labels": ["background", "person"], "colors": ["#000000", "#FFFFFF"]}
    ),
}

#: Away from macOS the runner evaluates the saved program itself.
_EVALUATED = "" if sys.platform == "darwin" else "; parity by this project's evaluator of the file, not by Core ML"


class Converter:
    """One run's networks on their way to Core ML; what several files begin with is converted once.

    Attributes:
        networks: of the run.
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    @cached_property
    def program(self) -> Any:
        """The ML program (iOS 15) of float16 that the compressed ones come from."""
        return self.convert("mlprogram")

    def fp16(self) -> Any:
        """Weights and activations in float16: the file for the neural engine and GPUs."""
        return self.program

    def multiarray(self) -> Any:
        """As `fp16`, but the mask is a float tensor (1, 1, h, w) of 0…1: for apps that call Core ML without Vision."""
        return self.convert("mlprogram", is_image=False)

    def int8(self) -> Any:
        """Weights in 8 bits with one scale a channel, computed in float16; kernels under 2,048 elements stay."""
        import coremltools.optimize.coreml as cto

        return cto.linear_quantize_weights(self.program, cto.OptimizationConfig(global_config=_linear()))

    def palette(self, bits: int) -> Any:
        """Weights as indices into one palette a kernel, computed in float16; depthwise kernels as in `int8`.

        Kernels under 2,048 elements stay.
        """
        import coremltools.optimize.coreml as cto

        # coremltools' own k-means needs scikit-learn, and draws its first centres
        find = partial(find_palette, entries=2**bits)
        config = cto.OpPalettizerConfig(mode="custom", lut_function=find, weight_threshold=2048)
        # with the batch normalization folded in, a depthwise kernel's channels differ in scale by up to 5,000, and one
        # palette has nothing for the small ones. One such kernel, 4 % of contour_small, was most of a file's error
        depthwise = depthwise_kernels(self.program)
        others = cto.palettize_weights(
            self.program, cto.OptimizationConfig(global_config=config, op_name_configs=dict.fromkeys(depthwise))
        )
        return cto.linear_quantize_weights(
            others, cto.OptimizationConfig(op_name_configs=dict.fromkeys(depthwise, _linear()))
        )

    def network(self) -> Any:
        """A neural network (iOS 13), weights in float16: half the file, and what old GPUs compute in anyway."""
        import coremltools as ct
        from coremltools.models.neural_network.quantization_utils import quantize_weights

        from portraitseg.runners.coreml.network import load_network

        half = quantize_weights(self.convert("neuralnetwork"), nbits=16)
        # away from macOS it may return the specification
        spec = half.get_spec() if hasattr(half, "get_spec") else half
        channels: dict[str, int] = {}
        image = np.zeros((1, 3, *self.networks.size), np.float32)
        network = load_network(Path("network.mlmodel"), spec)
        network.evaluate({"image": image}, "fp32", lambda name, value: channels.update({name: np.shape(value)[1]}))
        to_ios13(spec, channels)
        return ct.models.MLModel(spec, skip_model_load=True)

    def convert(self, kind: Literal["mlprogram", "neuralnetwork"], is_image: bool = True) -> Any:
        """Converts the network; `image` RGB bytes → `mask` grayscale bytes, or with `is_image` False floats."""
        import coremltools as ct
        import tensorflow as tf

        model: Any = self.networks.get(self.networks.better_float)
        spec = tf.TensorSpec((1, *self.networks.size, 3), tf.float32, name="image")

        @tf.function(input_signature=[spec], autograph=False)
        def to_mask(image: Any) -> Any:
            # a grayscale image output is (1, 1, h, w) of 0…255; the output type takes no scale, so the graph scales.
            # The last operator carries the name: an Identity would be folded away before coremltools looks for it.
            probability = model(image, training=False)
            return tf.transpose(probability * 255.0 if is_image else probability, [0, 3, 1, 2], name="mask")

        source = ct.ImageType(
            name="image", shape=spec.shape.as_list(), scale=contract.INPUT_SCALE, color_layout=ct.colorlayout.RGB
        )
        mask = (
            ct.ImageType(name="mask", color_layout=ct.colorlayout.GRAYSCALE)
            if is_image
            else ct.TensorType(name="mask", dtype=np.float32)
        )
        is_program = kind == "mlprogram"
        return ct.convert(
            [to_mask.get_concrete_function()],
            source="tensorflow",
            convert_to=kind,
            inputs=[source],
            outputs=[mask],
            compute_precision=ct.precision.FLOAT16 if is_program else None,
            # a network comes for iOS 14, and `to_ios13` takes it back by one
            minimum_deployment_target=ct.target.iOS15 if is_program else ct.target.iOS14,
            # loading the model back would compile it, on macOS only
            skip_model_load=True,
        )


@dataclass(frozen=True)
class Variant:
    """One line of the registry: a kind of Core ML file.

    Attributes:
        recipe: how its weights are stored.
        make: (converter) → coremltools' MLModel.
        bound: how far it may be from the float network.
        needs: the oldest system that opens it.
        is_image: whether the mask is an image, as Vision needs it, or a multi-array.
    """

    recipe: str
    make: Callable[[Converter], Any]
    bound: Bound
    needs: str
    is_image: bool = True


_IOS13, _IOS15, _IOS16 = "iOS 13 or later", "iOS 15 or later", "needs iOS 16"

#: End of the file's name → variant. Bounds from Fast-SCNN at 256 px, and at 64 px with half the channels, which is the
#: most sensitive that we measured.
VARIANTS: dict[str, Variant] = {
    # measured max 0.006 and 0.014, mean 7e-4 and 1.2e-3, mask IoU 0.9998 and 0.998: rounding to float16 at each
    # operator; and half a step of 1/255, as the mask is an image of bytes. A network that was trained longer has a
    # steeper outline, on which single pixels move further: contour_small's max was 0.039 at last, its mean 8e-4,
    # selfie_general's, with Google's weights, 0.073 and 9e-4 (mask IoU 0.9993)
    "fp16.mlpackage": Variant("fp16", Converter.fp16, Bound(0.1, 4e-3, 0.995), _IOS15),
    # measured max 0.004 and 0.013, mean 2e-4 and 7e-4: the same without the bytes
    "fp16-multiarray.mlpackage": Variant("fp16", Converter.multiarray, Bound(0.1, 2e-3, 0.995), _IOS15, is_image=False),
    # measured max 0.02 and 0.04, mean 0.001 and 0.0024, mask IoU 0.9993 and 0.993: 127 steps to a channel's greatest
    # weight. As for TFLite, the largest difference of the three is that of single pixels on the outline
    "int8.mlpackage": Variant("int8", Converter.int8, Bound(None, 0.01, 0.98), _IOS16),
    # measured max 0.14 and 0.11, mean 0.0021 and 0.0056, mask IoU 0.998 and 0.988: 64 values a kernel
    "palette6.mlpackage": Variant("palette6", partial(Converter.palette, bits=6), Bound(None, 0.025, 0.95), _IOS16),
    # measured max 0.33 and 0.45, mean 0.007 and 0.028, mask IoU 0.992 and 0.931, shift 0.18 and 0.30 px, gain 1.000 and
    # 0.978: 16 values a kernel make another network of it. Its geometry is that of the fp16 file and is judged there
    "palette4.mlpackage": Variant(
        "palette4", partial(Converter.palette, bits=4), Bound(None, 0.08, 0.85, shift_px=1.5, gain_error=0.06), _IOS16
    ),
    # measured max 0.004 and 0.011, mean 7e-4 and 1e-3: weights rounded once, sums in float32
    "fp16.mlmodel": Variant("fp16", Converter.network, Bound(0.1, 4e-3, 0.995), _IOS13),
}


def coreml_products(networks: Networks) -> list[Product]:
    """The files for iOS."""
    height, width = networks.size
    converter = Converter(networks)
    return [
        Product(
            path=f"{networks.name}-{height}x{width}-{end}",
            channels="rgb",
            recipe=variant.recipe,
            write=partial(write_coreml, variant=variant, converter=converter),
            describe=describe_coreml,
            reference=networks.better_float,
            bound=variant.bound,
            note=variant.needs + _EVALUATED + _weights_note(networks),
        )
        for end, variant in VARIANTS.items()
    ]


def _weights_note(networks: Networks) -> str:
    """Which weights were taken, where there was a choice."""
    if not networks.val_iou:
        return ""
    scores = ", ".join(f"{name} {iou:.4f}" for name, iou in networks.val_iou.items())
    return f"; weights: {networks.better_float} (IoU on val: {scores})"


def write_coreml(path: Path, variant: Variant, converter: Converter) -> None:
    """Converts, fills in the metadata, writes the file and checks that Vision can use it.

    Raises:
        CheckFailed: what Vision would stumble over, with the remedy.
    """
    from portraitseg.runners.coreml.vision import check_vision

    # importing coremltools away from macOS is noisy too
    with quiet():
        model = variant.make(converter)
        describe_to_people(model, converter.networks, variant)
        model.save(str(path))
    # a multi-array is not for Vision; its scale and range are seen by parity
    if variant.is_image and (faults := check_vision(path)):
        raise CheckFailed(f"{path.name}: not for Vision: {'; '.join(f.removeprefix(f'{path}: ') for f in faults)}")


def describe_to_people(model: Any, networks: Networks, variant: Variant) -> None:
    """Writes author, licence, description and Xcode's preview into a model."""
    model.author = "portraitseg"
    model.license = f"code and network Apache-2.0; weights trained on photos under: {networks.licence}"
    model.short_description = f"Portrait segmentation, {networks.name} of run {networks.run}: probability of person"
    model.version = networks.run
    model.input_description["image"] = "RGB photo, stretched to the network's size (Vision: scaleFill)"
    model.output_description["mask"] = f"probability of person, 0 to {255 if variant.is_image else 1}"
    for key, value in PREVIEW.items():
        model.user_defined_metadata[key] = value


def describe_coreml(path: Path) -> tuple[Tensor, Tensor]:
    """Reads input and output from the file's description, which works away from macOS too."""
    import coremltools as ct

    from portraitseg.runners.coreml import evaluator as coreml

    source, mask, _, layout = coreml.describe(path, ct.utils.load_spec(str(path)).description)
    is_image = mask.dtype == "uint8"
    output = output_tensor(mask, is_image)
    return input_tensor(source, "rgb", is_image=True), output if is_image else output.model_copy(
        update={"layout": layout}
    )


def _linear() -> Any:
    """8 bits with one scale a channel, for kernels of at least 2,048 elements."""
    import coremltools.optimize.coreml as cto

    # coremltools' default: kernels below it are 0.3 to 1.6 % of the bytes, and a fifth to two thirds of the error
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=2048)


def depthwise_kernels(model: Any) -> list[str]:
    """Names of the constants of an ML program that are kernels of depthwise convolutions: of one input channel each."""
    program = model._mil_program
    return [
        operator.weight.op.name
        for function in program.functions.values()
        for operator in function.find_ops(op_type="conv")
        if operator.weight.shape[1] == 1 < operator.groups.val
    ]


def find_palette(
    weights: Float[np.ndarray, "*d"], entries: int
) -> tuple[Float[np.ndarray, " entries"], UInt8[np.ndarray, " n"]]:
    """The palette with the least squared error, by Lloyd's algorithm: k-means of one dimension, on sorted values.

    Args:
        weights: a kernel of any shape.
        entries: of the palette, at most 256.

    Returns:
        The palette, ascending, in the kernel's type; and the index of each weight, in order.
    """
    values = weights.ravel().astype(np.float64)
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    # between an even spacing, good for the tails, and equal counts, good for the bulk around zero
    centres = (np.quantile(ordered, np.linspace(0, 1, entries)) + np.linspace(ordered[0], ordered[-1], entries)) / 2
    for _ in range(_LLOYD_STEPS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2), [values.size]])
        counts = np.diff(ends)
        # a centre that attracts nothing stays where it is
        centres = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), centres)
    palette = np.sort(centres).astype(weights.dtype)
    middles = (palette[1:].astype(np.float64) + palette[:-1]) / 2
    return palette, np.searchsorted(middles, values).astype(np.uint8)
