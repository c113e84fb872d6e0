"""The evaluator's operators against onnxruntime and TensorFlow over random small shapes and attributes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from portraitseg.runners.coreml import kernels
from portraitseg.runners.coreml.ops import OPS

#: float32 sums of at most a few hundred products of values around 1, in another order than the other library's.
CLOSE = 2e-5
few = settings(max_examples=40, deadline=None)


def run_onnx(op: str, inputs: list[np.ndarray], **attributes: Any) -> np.ndarray:
    """One ONNX operator (opset 19) in onnxruntime; an empty array is an absent input."""
    names = [f"x{i}" if value.size else "" for i, value in enumerate(inputs)]
    node = onnx.helper.make_node(op, names, ["y"], **attributes)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(names, inputs, strict=True)
        if name
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", values, [output]), opset_imports=[onnx.helper.make_opsetid("", 19)]
    )
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value for name, value in zip(names, inputs, strict=True) if name})[0]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=CLOSE, rtol=CLOSE)


seeds = st.integers(0, 2**16)
sides = st.tuples(st.integers(1, 11), st.integers(1, 11))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
windows = st.tuples(st.integers(1, 4), st.integers(1, 4))
borders = st.tuples(*[st.integers(0, 2)] * 4)
pad_types = st.sampled_from(["valid", "same", "same_lower", "custom"])
AUTO_PAD = {"valid": "VALID", "same": "SAME_UPPER", "same_lower": "SAME_LOWER", "custom": "NOTSET"}


def fits(size: tuple[int, int], kernel: tuple[int, int], spread: tuple[int, int], pad_type: str, pad: Any) -> bool:
    added = (pad[0] + pad[1], pad[2] + pad[3]) if pad_type == "custom" else (0, 0)
    return pad_type.startswith("same") or all(size[i] + added[i] >= (kernel[i] - 1) * spread[i] + 1 for i in range(2))


@few
@given(
    seeds,
    sides,
    windows,
    pairs,
    pairs,
    pad_types,
    borders,
    st.sampled_from([(1, 3, 4), (2, 2, 3), (4, 1, 2), (3, 1, 1)]),
)
def test_conv_is_onnxruntimes(seed, size, kernel, strides, dilations, pad_type, pad, channels) -> None:
    groups, per_group, filters = channels
    assume(fits(size, kernel, dilations, pad_type, pad))
    x = noise(seed, 1, groups * per_group, *size)
    weight, bias = noise(seed + 1, groups * filters, per_group, *kernel), noise(seed + 2, groups * filters)
    ours = OPS["conv"](
        x=x, weight=weight, bias=bias, strides=np.array(strides), dilations=np.array(dilations), groups=groups,
        pad_type=pad_type, pad=np.array(pad),
    )  # fmt: skip
    theirs = {"strides": strides, "dilations": dilations, "group": groups, "kernel_shape": kernel}
    if pad_type == "custom":
        theirs["pads"] = (pad[0], pad[2], pad[1], pad[3])
    if pad_type.startswith("same") and dilations != (1, 1):
        # onnxruntime refuses SAME with dilations: TensorFlow's rule, from its documentation, as explicit pads
        sides_of = kernels.paddings(pad_type, size, kernel, strides, dilations)
        theirs["pads"] = (sides_of[0][0], sides_of[1][0], sides_of[0][1], sides_of[1][1])
    else:
        theirs["auto_pad"] = AUTO_PAD[pad_type]
    assert_same(ours, run_onnx("Conv", [x, weight, bias], **theirs))


@few
@given(seeds, sides, windows, st.sampled_from([(1, (1, 1)), (2, (1, 1)), (3, (1, 1)), (1, (2, 3)), (1, (4, 2))]))
def test_same_padding_is_tensorflows(seed, size, kernel, stride_and_dilation) -> None:
    import tensorflow as tf

    stride, dilations = stride_and_dilation
    x, weight = noise(seed, 1, 3, *size), noise(seed + 1, 4, 3, *kernel)
    ours = OPS["conv"](
        x=x, weight=weight, strides=np.array([stride] * 2), dilations=np.array(dilations), pad_type="same"
    )
    theirs = tf.nn.conv2d(
        x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0), stride, "SAME", dilations=dilations
    ).numpy()
    assert_same(ours, theirs.transpose(0, 3, 1, 2))


@few
@given(seeds, sides, windows, st.integers(1, 3), st.integers(0, 2))
def test_same_conv_transpose_is_tensorflows(seed, size, kernel, stride, less) -> None:
    import tensorflow as tf

    assume(less < stride)
    target = [side * stride - less for side in size]
    assume(min(target) > 0)
    x, weight = noise(seed, 1, 3, *size), noise(seed + 1, 3, 2, *kernel)
    ours = OPS["conv_transpose"](
        x=x, weight=weight, strides=np.array([stride] * 2), pad_type="same", output_shape=np.array([1, 2, *target])
    )
    theirs = tf.nn.conv2d_transpose(
        x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0), [1, *target, 2], stride, "SAME"
    ).numpy()
    assert_same(ours, theirs.transpose(0, 3, 1, 2))


@few
@given(seeds, sides, windows, pairs, pairs, st.sampled_from([(1, 3, 2), (2, 2, 3), (3, 1, 1)]), borders)
def test_conv_transpose_is_onnxruntimes(seed, size, kernel, strides, dilations, channels, pad) -> None:
    groups, per_group, filters = channels
    full = [(size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    assume(full[0] > pad[0] + pad[1] and full[1] > pad[2] + pad[3])
    x, weight = noise(seed, 1, groups * per_group, *size), noise(seed + 1, groups * per_group, filters, *kernel)
    bias = noise(seed + 2, groups * filters)
    ours = OPS["conv_transpose"](
        x=x, weight=weight, bias=bias, strides=np.array(strides), dilations=np.array(dilations), groups=groups,
        pad_type="custom", pad=np.array(pad),
    )  # fmt: skip
    theirs = run_onnx(
        "ConvTranspose", [x, weight, bias], strides=strides, dilations=dilations, group=groups, kernel_shape=kernel,
        pads=(pad[0], pad[2], pad[1], pad[3]),
    )  # fmt: skip
    assert_same(ours, theirs)


@few
@given(seeds, sides, windows, pairs, pad_types, borders, st.booleans(), st.sampled_from(["avg", "max"]))
def test_pooling_is_onnxruntimes(seed, size, kernel, strides, pad_type, pad, exclude, kind) -> None:
    # onnxruntime wants pads below the window
    pad = tuple(min(side, kernel[i // 2] - 1) for i, side in enumerate(pad))
    assume(fits(size, kernel, (1, 1), pad_type, pad))
    # and stumbles over SAME when a stride leaps over pixels
    assume(not pad_type.startswith("same") or all(strides[i] <= kernel[i] for i in range(2)))
    x = noise(seed, 1, 3, *size)
    call: dict[str, Any] = {"strides": np.array(strides), "pad_type": pad_type, "pad": np.array(pad)}
    theirs: dict[str, Any] = {"strides": strides, "kernel_shape": kernel, "auto_pad": AUTO_PAD[pad_type]}
    if pad_type == "custom":
        theirs["pads"] = (pad[0], pad[2], pad[1], pad[3])
    if kind == "avg":
        call["exclude_padding_from_average"] = exclude
        theirs["count_include_pad"] = int(not exclude)
    ours = OPS[f"{kind}_pool"](x=x, kernel_sizes=np.array(kernel), **call)
    assert_same(ours, run_onnx("AveragePool" if kind == "avg" else "MaxPool", [x], **theirs))


def test_ceil_mode_is_pytorchs() -> None:
    # worked by hand: 5 columns, window 2, stride 2 → 3 windows, the last one hanging over by one
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5)
    call = {"x": x, "kernel_sizes": np.array([1, 2]), "strides": np.array([1, 2]), "ceil_mode": True}
    assert OPS["max_pool"](**call).ravel().tolist() == [1, 3, 4]
    assert OPS["avg_pool"](**call).ravel().tolist() == [0.5, 2.5, 4]
    # a window that would begin in the padding behind the image is dropped
    padded = {**call, "x": x[..., :4], "pad_type": "custom", "pad": np.array([0, 0, 1, 1])}
    assert OPS["max_pool"](**padded).ravel().tolist() == [0, 2, 3]


MODES = {
    "UNALIGN_CORNERS": "half_pixel",
    "STRICT_ALIGN_CORNERS": "align_corners",
    "DEFAULT": "asymmetric",
}


@few
@given(seeds, sides, st.tuples(st.integers(2, 24), st.integers(2, 24)), st.sampled_from(sorted(MODES)))
def test_resize_bilinear_is_onnxruntimes(seed, size, target, mode) -> None:
    x = noise(seed, 1, 2, *size)
    ours = OPS["resize_bilinear"](x=x, target_size_height=target[0], target_size_width=target[1], sampling_mode=mode)
    none = np.empty(0, np.float32)
    theirs = run_onnx(
        "Resize", [x, none, none, np.array([1, 2, *target])], mode="linear", coordinate_transformation_mode=MODES[mode]
    )
    assert_same(ours, theirs)


@few
@given(
    seeds, sides, st.integers(1, 5), st.integers(1, 5), st.sampled_from([(False, None), (True, None), (False, False)])
)
def test_upsample_bilinear_is_tensorflows(seed, size, rows, columns, corners) -> None:
    import tensorflow as tf

    align, half = corners
    x = noise(seed, 1, 2, *size)
    call: dict[str, Any] = {} if half is None else {"half_pixel_centers": half}
    ours = OPS["upsample_bilinear"](
        x=x, scale_factor_height=rows, scale_factor_width=float(columns), align_corners=align, **call
    )
    theirs = tf.raw_ops.ResizeBilinear(
        images=x.transpose(0, 2, 3, 1), size=[size[0] * rows, size[1] * columns], align_corners=align,
        half_pixel_centers=not align and half is None,
    ).numpy()  # fmt: skip
    assert_same(ours, theirs.transpose(0, 3, 1, 2))


@few
@given(seeds, sides, st.integers(1, 5), st.integers(1, 5))
def test_upsample_nearest_is_tensorflows(seed, size, rows, columns) -> None:
    import tensorflow as tf

    x = noise(seed, 1, 2, *size)
    ours = OPS["upsample_nearest_neighbor"](x=x, scale_factor_height=rows, scale_factor_width=columns)
    theirs = tf.raw_ops.ResizeNearestNeighbor(
        images=x.transpose(0, 2, 3, 1), size=[size[0] * rows, size[1] * columns], half_pixel_centers=True
    ).numpy()
    assert_same(ours, theirs.transpose(0, 3, 1, 2))


def test_grids_are_those_of_the_reference() -> None:
    # the examples of `resize_bilinear` in the MIL operator reference: 2 pixels to 5 and to 6
    expected = {
        ("UNALIGN_CORNERS", 5): [0, 0.1, 0.5, 0.9, 1],
        ("STRICT_ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
        ("DEFAULT", 5): [0, 0.4, 0.8, 1, 1],
        ("OFFSET_CORNERS", 5): [0.1, 0.3, 0.5, 0.7, 0.9],
        ("OFFSET_CORNERS", 6): [0.08, 0.25, 0.42, 0.58, 0.75, 0.92],
        ("ALIGN_CORNERS", 1): [0.5],
        ("STRICT_ALIGN_CORNERS", 1): [0],
    }
    for (mode, target), points in expected.items():
        np.testing.assert_allclose(kernels.grid(2, target, mode), points, atol=0.005)
    with pytest.raises(ValueError, match="unknown sampling_mode 'NEAREST'"):
        kernels.grid(2, 5, "NEAREST")


@few
@given(
    seeds,
    st.tuples(st.integers(3, 8), st.integers(3, 8)),
    borders,
    st.sampled_from(["constant", "reflect", "replicate"]),
)
def test_pad_is_onnxruntimes(seed, size, pad, mode) -> None:
    x = noise(seed, 1, 2, *size)
    ours = OPS["pad"](x=x, pad=np.array(pad), mode=mode, constant_val=0.5)
    pads = np.array([0, 0, pad[0], pad[2], 0, 0, pad[1], pad[3]])
    theirs = run_onnx("Pad", [x, pads, np.array(0.5, np.float32)], mode={"replicate": "edge"}.get(mode, mode))
    assert_same(ours, theirs)


ACTIVATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "relu": ("Relu", {}, {}),
    "sigmoid": ("Sigmoid", {}, {}),
    "tanh": ("Tanh", {}, {}),
    "softplus": ("Softplus", {}, {}),
    "softsign": ("Softsign", {}, {}),
    "elu": ("Elu", {"alpha": 0.7}, {"alpha": 0.7}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.1}, {"alpha": 0.1}),
    "sigmoid_hard": ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}, {"alpha": 0.25, "beta": 0.4}),
    "softmax": ("Softmax", {"axis": 1}, {"axis": 1}),
    "exp": ("Exp", {}, {}),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@settings(max_examples=15, deadline=None)
@given(hnp.arrays(np.float32, (1, 3, 2, 2), elements=st.floats(-20, 20, width=32)))
def test_activations_are_onnxruntimes(name, x) -> None:
    kind, ours, theirs = ACTIVATIONS[name]
    np.testing.assert_allclose(OPS[name](x=x, **ours), run_onnx(kind, [x], **theirs), atol=2e-6, rtol=2e-6)


@few
@given(hnp.arrays(np.float32, (1, 3, 2, 2), elements=st.floats(-20, 20, width=32)))
def test_other_elementwise_operators_are_tensorflows(x) -> None:
    import tensorflow as tf

    alpha = np.array([0.1, 0.2, 0.3], np.float32)
    mean, variance, gamma, beta = (noise(i, 3) for i in range(4))
    nhwc = x.transpose(0, 2, 3, 1)
    normal = tf.nn.batch_normalization(nhwc, mean, np.abs(variance), beta, gamma, 1e-3).numpy().transpose(0, 3, 1, 2)
    # TensorFlow flushes subnormals to 0
    np.testing.assert_allclose(OPS["relu6"](x=x), tf.nn.relu6(x), rtol=0, atol=1e-37)
    np.testing.assert_allclose(OPS["clip"](x=x, alpha=-1, beta=2.5), tf.clip_by_value(x, -1, 2.5), rtol=0, atol=1e-37)
    np.testing.assert_allclose(OPS["silu"](x=x), tf.nn.silu(x), atol=CLOSE)
    np.testing.assert_allclose(
        OPS["prelu"](x=x, alpha=alpha), run_onnx("PRelu", [x, alpha[:, None, None]]), rtol=0, atol=1e-37
    )
    np.testing.assert_allclose(
        OPS["batch_norm"](x=x, mean=mean, variance=np.abs(variance), gamma=gamma, beta=beta, epsilon=1e-3),
        normal, rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    np.testing.assert_allclose(
        OPS["reduce_mean"](x=x, axes=np.array([-1, -2]), keep_dims=True), tf.reduce_mean(x, (2, 3), True), atol=CLOSE
    )
    np.testing.assert_array_equal(
        OPS["slice_by_index"](
            x=x, begin=np.array([0, 1, 0, 1]), end=np.array([1, 3, 1, 1]),
            end_mask=np.array([False, False, True, False]), squeeze_mask=np.array([False, False, False, True]),
        ),
        x[:, 1:3, :, 1],
    )  # fmt: skip


ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "real_div": "Div", "maximum": "Max", "minimum": "Min"}
# of one image beside another, beside one number a channel (squeeze-and-excitation), beside one map, beside a scalar
OTHERS = ((1, 3, 4, 5), (1, 3, 1, 1), (1, 1, 4, 5), ())


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(sorted(ARITHMETIC)), st.sampled_from(OTHERS), st.booleans())
def test_arithmetic_with_broadcasting_is_onnxruntimes(seed, name, other, is_swapped) -> None:
    x, y = noise(seed, 1, 3, 4, 5), np.asarray(noise(seed + 1, *other))
    y = np.where(np.abs(y) < 0.1, np.float32(0.5), y)
    pair = (y, x) if is_swapped else (x, y)
    assert_same(OPS[name](x=pair[0], y=pair[1]), run_onnx(ARITHMETIC[name], list(pair)))


def test_sigmoid_is_silent_where_it_saturates() -> None:
    x = np.array([-500, -90, 0, 90, 500], np.float32)
    np.testing.assert_allclose(OPS["sigmoid"](x=x), [0, 0, 0.5, 1, 1], atol=1e-30)
