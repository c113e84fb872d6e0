"""Real Core ML files of a small network in the evaluator: right ones pass, damaged ones do not."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitseg.errors import InputError
from portraitseg.runners import open_runner
from portraitseg.runners.coreml.evaluator import CoreMLEvaluator, CoreMLNative, to_bytes
from portraitseg.runners.coreml.values import proto, read_spec
from portraitseg.runners.coreml.vision import check_vision

SIZE = (64, 64)

#: Greatest difference of the mask, before it is an image, to Keras in float32. The least that a damage of this file's
#: tests does is 0.71. Each bound with its reason, and what was measured:
BOUNDS = {
    # same weights, same arithmetic, sums in another order: 1e-7 a layer, amplified over 10 layers (4e-6)
    "fp32.mlpackage": 5e-5,
    "network.mlmodel": 5e-5,
    # float16 keeps 11 bits, so up to 5e-4 of a value is lost at each of 25 roundings; the sigmoid keeps a quarter of
    # what that makes of logits of about ±4 (1.3e-2)
    "fp16.mlpackage": 2e-2,
    "fp16-multiarray.mlpackage": 2e-2,
    # 127 steps to the greatest weight of a kernel: eight times coarser than float16 where it matters (2.1e-2)
    "int8.mlpackage": 5e-2,
    # 63 even steps from the least to the greatest weight of a layer, outliers included (1.5e-1)
    "palette6.mlpackage": 2.5e-1,
}
#: Those that hand an image out.
IMAGE = tuple(name for name in BOUNDS if "multiarray" not in name)


def build_network() -> Any:
    """Each kind of operator that our networks have, once or twice: ten convolutions, converted in a second."""
    from portraitseg.models import blocks
    from portraitseg.models.keras_route import keras

    image = keras.Input((*SIZE, 3), name="image")
    x = blocks.conv_bn(image, 16, kernel=3, stride=2, name="down0")
    x = blocks.inverted_residual(x, 48, 2, expansion=3, name="down1")
    pooled = keras.layers.AveragePooling2D(4, name="pool")(x)
    pooled = blocks.upsample(blocks.conv_bn(pooled, 48, name="context"), 4, name="context")
    x = keras.layers.Add(name="sum")([x, pooled])
    # two pointwise kernels of one shape, large enough to be compressed: 48 times 48
    x = blocks.separable(blocks.separable(x, 48, name="classifier0"), 48, name="classifier1")
    logits = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(blocks.upsample(logits, 4, name="logits")), name="evaluated")


def lively_network() -> Any:
    """`build_network` with batch statistics of photos, so that its masks depend on them, and logits of any size.

    With the statistics of a fresh network the zero padding alone would make the mask.
    """
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    network = build_network()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(random.uniform(0.8, 1.4, layer.gamma.shape))
            layer.beta.assign(random.uniform(-0.3, 0.8, layer.beta.shape))
    inputs = photos(16) / np.float32(255)
    network(inputs, training=True)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # twice the measured spread: as it was, a random network is chaotic, which a trained one is not
            layer.moving_variance.assign(layer.moving_variance * 2)
    head = network.get_layer("logits")
    logits = keras.Model(network.input, head.output)(inputs, training=False).numpy()
    kernel, bias = head.get_weights()
    head.set_weights([kernel * 2 / logits.std(), (bias - logits.mean()) * 2 / logits.std()])
    return network


def photos(count: int) -> np.ndarray:
    """(n, h, w, 3) uint8: blots, bright in red and dark in blue, other ones left and right."""
    import cv2

    random = np.random.default_rng(7)
    small = random.integers((120, 60, 0), (256, 200, 60), (count, 8, 8, 3)).astype(np.uint8)
    return np.stack([cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_LINEAR) for image in small])


def convert(network: Any, is_image: bool, **options: Any) -> Any:
    import coremltools as ct
    import tensorflow as tf

    spec = tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")

    @tf.function(input_signature=[spec], autograph=False)
    def graph(image: Any) -> Any:
        mask = network(image, training=False)
        return tf.transpose(mask * 255.0, [0, 3, 1, 2]) if is_image else mask

    model = ct.convert(
        [graph.get_concrete_function()],
        source="tensorflow",
        inputs=[ct.ImageType(name="image", shape=(1, *SIZE, 3), scale=1 / 255, color_layout=ct.colorlayout.RGB)],
        outputs=[ct.ImageType(color_layout=ct.colorlayout.GRAYSCALE) if is_image else ct.TensorType()],
        skip_model_load=True,
        **options,
    )
    document = model.get_spec()
    ct.utils.rename_feature(document, document.description.output[0].name, "mask")
    return ct.models.MLModel(document, weights_dir=model.weights_dir, skip_model_load=True)


@pytest.fixture(scope="module")
def keras_masks() -> tuple[Any, np.ndarray]:
    network = lively_network()
    return network, network(photos(4) / np.float32(255), training=False).numpy()


@pytest.fixture(scope="module")
def folder(keras_masks: tuple[Any, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `BOUNDS`."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    network, _ = keras_masks
    folder = tmp_path_factory.mktemp("coreml")
    program = {"convert_to": "mlprogram", "minimum_deployment_target": ct.target.iOS15}
    half = convert(network, True, compute_precision=ct.precision.FLOAT16, **program)
    half.save(str(folder / "fp16.mlpackage"))
    convert(network, True, compute_precision=ct.precision.FLOAT32, **program).save(str(folder / "fp32.mlpackage"))
    convert(network, False, compute_precision=ct.precision.FLOAT16, **program).save(
        str(folder / "fp16-multiarray.mlpackage")
    )
    convert(network, True, convert_to="neuralnetwork", minimum_deployment_target=ct.target.iOS14).save(
        str(folder / "network.mlmodel")
    )
    linear = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    cto.linear_quantize_weights(half, linear).save(str(folder / "int8.mlpackage"))
    for bits in (6, 4):
        # k-means would need scikit-learn
        palette = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=bits))
        cto.palettize_weights(half, palette).save(str(folder / f"palette{bits}.mlpackage"))
    return folder


def difference(path: Path, masks: np.ndarray) -> float:
    """Greatest difference of the evaluator's masks, before they are bytes, to Keras'."""
    runner = CoreMLEvaluator(path)
    scale = 255 if runner.output.dtype == "uint8" else 1
    images = photos(4)
    ours = np.concatenate([runner.floats(runner.prepare(image)) for image in images]) / np.float32(scale)
    return float(np.abs(ours - masks).max())


def damage(path: Path, into: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a file whose specification is edited."""
    copy = into / path.name
    (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
    spec, _ = read_spec(copy)
    edit(spec)
    target = copy / "Data/com.apple.CoreML/model.mlmodel" if copy.is_dir() else copy
    target.write_bytes(spec.SerializeToString())
    return copy


def operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def constant(spec: Any, operator: str, parameter: str) -> list[Any]:
    """The values of a constant parameter of all operators of one kind, to be edited in place."""
    names = {o.inputs[parameter].arguments[0].name for o in operations(spec) if o.type == operator}
    constants = [o for o in operations(spec) if o.type == "const" and o.outputs[0].name in names]
    return [o.attributes["val"].immediateValue.tensor for o in constants]


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_masks_are_keras_masks(folder: Path, keras_masks: tuple[Any, np.ndarray], name: str) -> None:
    _, masks = keras_masks
    # a mask that hardly varies would make any bound easy
    assert masks.std() > 0.2
    measured = difference(folder / name, masks)
    print(name, measured)
    assert measured <= BOUNDS[name]


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_the_runner_keeps_the_contract(folder: Path, keras_masks: tuple[Any, np.ndarray], name: str) -> None:
    _, masks = keras_masks
    runner = open_runner(folder / name)
    assert (runner.size, runner.channels, runner.latency_reason) == (SIZE, "rgb", "needs macOS")
    assert (runner.delegate, runner.input.name, runner.output.name) == ("numpy", "image", "mask")
    is_half = name not in ("fp32.mlpackage", "network.mlmodel")
    assert runner.runtime == f"portraitseg coreml evaluator ({'fp16 rounding' if is_half else 'fp32'})"
    image = photos(4)[0]
    outputs = runner.run(runner.prepare(image))
    assert outputs.shape == (1, *SIZE, 1)
    assert outputs.dtype == (np.float32 if "multiarray" in name else np.uint8)
    probability = runner.predict(image)
    assert probability.shape == SIZE and probability.min() >= 0 and probability.max() <= 1
    # half a step of the image of bytes
    assert np.abs(probability - masks[0, :, :, 0]).max() <= BOUNDS[name] + 0.5 / 255 + 1e-6


def test_rounding_to_float16_is_what_separates_the_precisions(
    folder: Path, keras_masks: tuple[Any, np.ndarray]
) -> None:
    inputs = photos(1)
    floats = {
        (name, precision): CoreMLEvaluator(folder / name, precision).floats(inputs)
        for name in ("fp16.mlpackage", "fp32.mlpackage", "network.mlmodel")
        for precision in ("file", "fp32", "fp16")
    }
    for name in ("fp32.mlpackage", "network.mlmodel"):
        np.testing.assert_array_equal(floats[name, "file"], floats[name, "fp32"])
        assert np.abs(floats[name, "fp16"] - floats[name, "fp32"]).max() > 0.01
    assert np.abs(floats["fp16.mlpackage", "file"] - floats["fp16.mlpackage", "fp32"]).max() > 0.01
    # 0…255 in float16 has steps of at most 1/8
    result = floats["fp16.mlpackage", "file"]
    np.testing.assert_array_equal(result, result.astype(np.float16))


@pytest.mark.parametrize("name", ["int8", "palette4"])
def test_compressed_weights_are_those_that_coremltools_decompresses(folder: Path, tmp_path: Path, name: str) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    path = folder / f"{name}.mlpackage"
    plain = cto.decompress_weights(ct.models.MLModel(str(path), skip_model_load=True))
    plain.save(str(tmp_path / "plain.mlpackage"))
    inputs = photos(1)
    ours, theirs = CoreMLEvaluator(path), CoreMLEvaluator(tmp_path / "plain.mlpackage")
    assert any(o.type.startswith("constexpr_") for o in operations(read_spec(path)[0]))
    assert not any(o.type.startswith("constexpr_") for o in operations(read_spec(tmp_path / "plain.mlpackage")[0]))
    np.testing.assert_array_equal(ours.floats(inputs), theirs.floats(inputs))


def swap_colors(spec: Any) -> None:
    spec.description.input[0].type.imageType.colorSpace = 30


def drop_scale(spec: Any) -> None:
    constant(spec, "mul", "y")[0].floats.values[:] = [1.0]


def shift_half_a_pixel(spec: Any) -> None:
    for tensor in constant(spec, "upsample_bilinear", "align_corners"):
        tensor.bools.values[:] = [True]


def scramble_kernel(spec: Any) -> None:
    """Two pointwise convolutions of one shape swap their weights."""
    makers = {o.outputs[0].name: o for o in operations(spec)}
    pointwise = [o for o in operations(spec) if o.type == "conv" and "classifier" in o.outputs[0].name][1::2]
    first, second = (makers[o.inputs["weight"].arguments[0].name].attributes for o in pointwise)
    (key,) = {"val", "quantized_data", "indices"} & set(first)
    blobs = first[key].blobFileValue, second[key].blobFileValue
    blobs[0].offset, blobs[1].offset = blobs[1].offset, blobs[0].offset


def forget_to_scale_the_mask(spec: Any) -> None:
    for tensor in constant(spec, "mul", "y"):
        kind = tensor.WhichOneof("value")
        if kind == "bytes" and np.frombuffer(tensor.bytes.values, np.float16)[0] == 255:
            tensor.bytes.values = np.float16(1).tobytes()
        if kind == "floats" and tensor.floats.values[0] == 255:
            tensor.floats.values[:] = [1.0]


DAMAGES = [swap_colors, drop_scale, shift_half_a_pixel, scramble_kernel, forget_to_scale_the_mask]
PROGRAMS = [name for name in IMAGE if name.endswith(".mlpackage")]

#: By default of the compressed files the weights alone, which are what they have of their own: the rest of the program
#: is that of fp16.
DAMAGED = [
    pytest.param(
        name,
        edit,
        marks=pytest.mark.full if name.startswith(("int8", "palette")) and edit is not scramble_kernel else (),
    )
    for name in PROGRAMS
    for edit in DAMAGES
]


@pytest.mark.parametrize(("name", "edit"), DAMAGED)
def test_every_bound_fails_on_a_damaged_program(
    folder: Path, keras_masks: tuple[Any, np.ndarray], tmp_path: Path, name: str, edit: Callable[[Any], None]
) -> None:
    path = damage(folder / name, tmp_path, edit)
    measured = difference(path, keras_masks[1])
    print(name, edit.__name__, measured)
    assert measured > BOUNDS[name]


def network_swap(spec: Any) -> None:
    swap_colors(spec)


def network_scale(spec: Any) -> None:
    spec.neuralNetwork.preprocessing[0].scaler.channelScale = 1


def network_shift(spec: Any) -> None:
    for layer in spec.neuralNetwork.layers:
        if layer.WhichOneof("layer") == "upsample":
            layer.upsample.linearUpsampleMode = 0


def network_kernel(spec: Any) -> None:
    layer = next(layer for layer in spec.neuralNetwork.layers if layer.WhichOneof("layer") == "convolution")
    layer.convolution.weights.floatValue[:] = list(layer.convolution.weights.floatValue)[::-1]


def network_mask(spec: Any) -> None:
    spec.neuralNetwork.layers[-1].multiply.alpha = 1


@pytest.mark.parametrize("edit", [network_swap, network_scale, network_shift, network_kernel, network_mask])
def test_the_bound_fails_on_a_damaged_network(
    folder: Path, keras_masks: tuple[Any, np.ndarray], tmp_path: Path, edit: Callable[[Any], None]
) -> None:
    path = damage(folder / "network.mlmodel", tmp_path, edit)
    assert difference(path, keras_masks[1]) > BOUNDS["network.mlmodel"]


def test_an_unknown_operator_is_named(folder: Path, tmp_path: Path) -> None:
    def rename(spec: Any) -> None:
        next(o for o in operations(spec) if o.type == "avg_pool").type = "l2_pool"

    path = damage(folder / "fp16.mlpackage", tmp_path, rename)
    with pytest.raises(InputError, match=r"op 'l2_pool', which makes tensor '.*pool.*', is not known"):
        open_runner(path)


def test_an_unknown_layer_is_named(folder: Path, tmp_path: Path) -> None:
    def replace(spec: Any) -> None:
        layer = next(layer for layer in spec.neuralNetwork.layers if layer.WhichOneof("layer") == "pooling")
        layer.mvn.acrossChannels = True

    path = damage(folder / "network.mlmodel", tmp_path, replace)
    with pytest.raises(InputError, match=r"layer 'mvn', which makes tensor '.*pool.*', is not known"):
        open_runner(path)


def test_an_unknown_parameter_is_named(folder: Path, tmp_path: Path) -> None:
    def add(spec: Any) -> None:
        operation = next(o for o in operations(spec) if o.type == "relu6")
        operation.inputs["slope"].CopyFrom(operation.inputs["x"])

    with pytest.raises(InputError, match=r"op 'relu6' of tensor '.*': parameter 'slope' is not known"):
        open_runner(damage(folder / "fp16.mlpackage", tmp_path, add))


def test_a_shape_that_the_file_does_not_say_is_refused(folder: Path, tmp_path: Path) -> None:
    def stride(spec: Any) -> None:
        constant(spec, "conv", "strides")[0].ints.values[:] = [1, 1]

    path = damage(folder / "fp16.mlpackage", tmp_path, stride)
    with pytest.raises(InputError, match=r"op 'conv' makes tensor '.*' of shape \(1, 16, 64, 64\), the file says"):
        open_runner(path).run(photos(1))


def test_damaged_weight_files_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.mlpackage"
    shutil.copytree(folder / "int8.mlpackage", copy)
    weights = copy / "Data/com.apple.CoreML/weights/weight.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"weight\.bin: truncated"):
        open_runner(copy)
    weights.write_bytes(b"\0" * len(content))
    with pytest.raises(InputError, match="no weight begins at"):
        open_runner(copy)
    weights.unlink()
    with pytest.raises(InputError, match=r"no such file: copy the whole \.mlpackage folder"):
        open_runner(copy)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    empty, noise = tmp_path / "a.mlpackage", tmp_path / "b.mlmodel"
    empty.mkdir()
    noise.write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="no such file: not a package that coremltools wrote"):
        open_runner(empty)
    with pytest.raises(InputError, match="not a Core ML model"):
        open_runner(noise)
    noise.write_bytes(b"")
    with pytest.raises(InputError, match="not a Core ML model"):
        open_runner(noise)


def test_tensors_can_be_watched(folder: Path) -> None:
    runner, seen = CoreMLEvaluator(folder / "fp16.mlpackage"), {}
    result = runner.floats(photos(1), seen.__setitem__)
    assert [*seen][-1] == "mask" and len(seen) == sum(len(step.outputs) for step in runner.program.steps)
    np.testing.assert_array_equal(seen["mask"].transpose(0, 2, 3, 1), result)


@pytest.mark.parametrize("shape", [(8, 10), (1, 1, 8, 10), (1, 8, 10, 1)])
def test_core_mls_own_masks_come_back_nhwc(shape: tuple[int, ...]) -> None:
    spec = proto("Model_pb2").Model()
    for features, name, color in ((spec.description.input, "image", 20), (spec.description.output, "mask", 10)):
        image = features.add(name=name).type.imageType
        image.height, image.width, image.colorSpace = 8, 10, color

    class Model:
        def get_spec(self) -> Any:
            return spec

        def predict(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
            assert inputs["image"].size == (10, 8)
            return {"mask": np.asarray(inputs["image"])[:, :, 0].reshape(shape)}

    image = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    runner = CoreMLNative(Path("m.mlpackage"), Model(), "all")
    assert (runner.delegate, runner.latency_reason) == ("all", None)
    np.testing.assert_allclose(runner.predict(image), image[:, :, 0] / 255, atol=1e-6)


def test_bytes_are_the_nearest_ones() -> None:
    values = np.array([-3, 0.4, 0.6, 254.6, 300, np.inf], np.float32).reshape(1, 1, 1, 6)
    assert to_bytes(values).ravel().tolist() == [0, 0, 1, 255, 255, 255]


@pytest.mark.parametrize("name", IMAGE)
def test_vision_takes_the_image_files(folder: Path, name: str) -> None:
    assert check_vision(folder / name) == []


def rename_input(spec: Any) -> None:
    spec.description.input[0].name = "input_1"


def smaller_mask(spec: Any) -> None:
    spec.description.output[0].type.imageType.width = 32


def half_precision_mask(spec: Any) -> None:
    spec.description.output[0].type.imageType.colorSpace = 40


def multiarray_input(spec: Any) -> None:
    spec.description.input[0].type.multiArrayType.shape[:] = [1, *SIZE, 3]


FAULTS = [
    (swap_colors, "input 'image' is not RGB.*colorlayout.RGB"),
    (drop_scale, r"input 'image' meets × 1 first: bytes must become 0…1: ct.ImageType\(scale=1/255\)"),
    (forget_to_scale_the_mask, "output 'mask' lies in 0…1, not 0…255: multiply the sigmoid by 255"),
    (rename_input, "input 'input_1': name it 'image'"),
    (smaller_mask, "output 'mask' is 32x64, the input 64x64: upsample"),
    (half_precision_mask, "output 'mask' is not 8-bit grayscale"),
    (multiarray_input, "input 'image' is a multi-array: Vision feeds images"),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS, ids=[edit.__name__ for edit, _ in FAULTS])
@pytest.mark.parametrize("name", ["fp16.mlpackage", "fp32.mlpackage"])
def test_vision_faults_come_with_a_remedy(
    folder: Path, tmp_path: Path, name: str, edit: Callable[[Any], None], message: str
) -> None:
    assert re.search(message, "\n".join(check_vision(damage(folder / name, tmp_path, edit))))


@pytest.mark.parametrize(("edit", "message"), [(network_scale, "meets × 1 first"), (network_mask, "lies in 0…1")])
def test_vision_faults_of_networks(folder: Path, tmp_path: Path, edit: Callable[[Any], None], message: str) -> None:
    (fault,) = check_vision(damage(folder / "network.mlmodel", tmp_path, edit))
    assert message in fault


def test_vision_wants_an_image_out(folder: Path) -> None:
    (fault,) = check_vision(folder / "fp16-multiarray.mlpackage")
    assert "output 'mask' is a multi-array: Vision gives a pixel buffer of an image: outputs=[ct.ImageType(" in fault
