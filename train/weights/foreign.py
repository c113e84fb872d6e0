"""Networks of others out of their .tflite files: MediaPipe's selfie segmentation, general and landscape (Apache-2.0).

A file is known by its structure: the convolutions in the order of execution, with kernels and strides, and the number
of every other operator. Nothing in it is executed to read it. That the rebuilt network is the file's is then measured:
both look at portraits that we draw.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import contract, models
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint, selfie
from portraitseg.models.widen import copy_wider
from portraitseg.runners import open_runner, tflite
from portraitseg.synthetic import portraits as synthetic
from portraitseg.tflite.constants import Constants, float_constants
from portraitseg.tflite.graph import Graph, Op, parse_graph, read_content
from train.weights.terms import note_of, of_file

#: Google's logits reach hundreds (general: -1024 to 385 on photos): their sigmoid is 0 or 1 nearly everywhere, and no
#: loss has a gradient there. Of 1, 5, 10, 20, 30 … 120, division by 20 gives the least cross-entropy on 96 photos of
#: `train` for the general model. A positive factor moves no 0.5 contour.
LOGIT_DIVISOR = 20.0

#: Greatest difference in probability between file and rebuilt network that is rounding. Both have the same float16
#: numbers as float32 and differ in the order of sums: measured 3.4e-5 at most on five photos. Two neighbouring channels
#: of the last convolution swapped make 0.1 and more (tests/train/test_foreign.py).
EQUAL = 2e-3

#: Portraits on which that is measured, and their side in pixels.
_PORTRAITS, _SIDE = 4, 256

#: The operators of these files beside convolutions; pooling is either of two.
_OTHERS = Counter(
    HARD_SWISH=11, LOGISTIC=11, MUL=10, ADD=14, POOL=10, RESIZE_BILINEAR=3, RELU=22, Convolution2DTransposeBias=1
)
_ALIASES = {"MEAN": "POOL", "AVERAGE_POOL_2D": "POOL"}
_CONVOLUTIONS = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}
_HEAD = "Convolution2DTransposeBias"

_KNOWN = "known are MediaPipe's selfie segmentation models, general (256x256) and landscape (144x256)"


@dataclass(frozen=True)
class Match:
    """A convolution of ours and the operator of the file whose weights it takes.

    Attributes:
        layer: ours.
        operator: the name of the file's tensor.
        kernel: shape of our kernel.
    """

    layer: str
    operator: str
    kernel: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What was imported.

    Attributes:
        network: of the registry, as written.
        matches: in the order of execution.
        size: (height, width) of the input.
        difference: greatest one in probability between the file and its rebuilt form, before anything else was done.
        is_equal_form: whether what was written computes the same function but for the divided logits.
    """

    network: str
    matches: tuple[Match, ...]
    size: tuple[int, int]
    difference: float
    is_equal_form: bool


def import_tflite(path: Path, out: Path, network: str | None = None, divisor: float = LOGIT_DIVISOR) -> Report:
    """Rebuilds a known network of others from its file, and writes it as an h5 from which training goes on.

    Args:
        path: a .tflite of `MODELS`' selfie networks as Google publishes it.
        out: the h5 to write.
        network: one of `selfie.VARIANTS`: another activation begins with the same weights, a greater width with a
            function-preserving copy of them; None: the network of the file.
        divisor: of the logits; 1: probabilities are the file's.

    Raises:
        InputError: no such network, not a known or an undamaged file, or `out` is there.
        CheckFailed: the rebuilt network differs from the file.
    """
    if out.exists():
        raise InputError(f"{out}: is there already: name another --out, or remove it")
    if network is not None and network not in selfie.VARIANTS:
        raise InputError(f"--model {network}: MediaPipe's weights fit {', '.join(selfie.VARIANTS)}")
    model, matches = rebuild(path)
    tflite.probe(path)
    difference = greatest_difference(model, path)
    if not difference <= EQUAL:
        raise CheckFailed(
            f"{path}: rebuilt, it differs by {difference:.2g} in probability from the file (bound {EQUAL:g}): "
            "its layers are connected in another way: not imported"
        )
    divide_logits(model, divisor)
    rebuilt = models.build(network or model.name, model.input_shape[1:3])
    copy_wider(model, rebuilt)
    checkpoint.save(rebuilt, out)
    checkpoint.annotate(out, note_of(of_file(path)))
    numbers = selfie.VARIANTS[rebuilt.name]
    return Report(rebuilt.name, tuple(matches), model.input_shape[1:3], difference, numbers.is_hard)


def rebuild(path: Path) -> tuple[Any, list[Match]]:
    """Builds the network of a file and gives it the file's weights.

    Returns:
        A Keras model of the size of the file, and what corresponds.

    Raises:
        InputError: not a known file, or a damaged one.
    """
    content = read_content(path)
    graph = parse_graph(content, str(path))
    convolutions = [op for op in graph.ops if op.name in _CONVOLUTIONS]
    height, width = _size(path, graph)
    model = models.build("selfie_landscape" if width > height else "selfie_general", (height, width))
    _check_structure(path, graph, convolutions, model)
    (head,) = (op for op in graph.ops if op.name == _HEAD)
    constants = float_constants(content, graph, str(path))
    given: list[tuple[str, str, list[np.ndarray]]] = []
    for name, op in zip(convolution_names(), convolutions, strict=True):
        kernel, bias = _weights(path, op, constants)
        # OHWI → HWIO; depthwise 1HWC → HWC1
        given.append((name, op.outputs[0].name, [kernel.transpose(1, 2, 3, 0), bias]))
    kernel, bias = _weights(path, head, constants)
    for row in range(2):
        # (1, rows, columns, in): each row of fine pixels is a 1x1 convolution to its columns
        rows = [kernel[0, row].T[None, None], np.repeat(bias, 2)]
        given.append((f"logits_row{row}", f"{head.outputs[0].name}, row {row}", rows))
    matches = []
    for name, operator, weights in given:
        layer = model.get_layer(name)
        shapes = [weight.shape for weight in layer.get_weights()]
        if [weight.shape for weight in weights] != shapes:
            raise InputError(f"{path}: '{operator}' has weights of another shape than '{name}': {_KNOWN}")
        layer.set_weights(weights)
        matches.append(Match(name, operator, tuple(shapes[0])))
    return model, matches


def convolution_names() -> list[str]:
    """Our convolutions in the order in which Google's files execute theirs, the head left out."""
    names = ["stem_conv"]
    for index, (*_, squeeze, _) in enumerate(selfie.ENCODER):
        inner = ("squeeze_conv", "excite_conv") if squeeze else ()
        names += [f"block{index}_{part}" for part in ("expand_conv", "dw", *inner, "project_conv")]
    names += ["aspp_conv", "aspp_excite_conv"]
    for step in range(len(selfie.SKIPS) + 1):
        names += [f"up{step}_{part}" for part in ("top_conv", "squeeze_conv", "excite_conv", "fuse_conv", "dw")]
    return names


def greatest_difference(model: Any, path: Path) -> float:
    """Greatest difference in probability between a Keras model and a file, on portraits that we draw."""
    runner = open_runner(path)
    differences = []
    for photo in portraits():
        theirs = runner.predict(photo)
        ours = model(contract.image_to_inputs(photo, runner.size)).numpy()[0, ..., 0]
        differences.append(np.abs(ours - theirs).max())
    return float(np.max(differences))


@cache
def portraits() -> tuple[np.ndarray, ...]:
    """Synthetic portraits, uint8 RGB."""
    return tuple(synthetic.render(index, (_SIDE, _SIDE), seed=0)[0] for index in range(_PORTRAITS))


def divide_logits(model: Any, divisor: float) -> None:
    """Divides the logits of a selfie network, so that training has gradients; the 0.5 contour stays.

    Raises:
        InputError: a divisor that is not positive.
    """
    if not 0 < divisor < float("inf"):
        raise InputError(f"--divide-logits {divisor:g}: a positive number; 1 leaves them as they are")
    for row in range(2):
        layer = model.get_layer(f"logits_row{row}")
        layer.set_weights([weight / np.float32(divisor) for weight in layer.get_weights()])


# ---- recognising


def _size(path: Path, graph: Graph) -> tuple[int, int]:
    """(height, width) of the one RGB photo that a file takes.

    Raises:
        InputError: it takes something else.
    """
    shape = graph.inputs[0].shape if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or shape[1] % selfie.STRIDE or shape[2] % selfie.STRIDE:
        raise InputError(f"{path}: its input is {shape}, not one RGB photo: {_KNOWN}")
    if not all(16 <= side <= 2048 for side in shape[1:3]):
        raise InputError(f"{path}: its input is {shape}: {_KNOWN}")
    return shape[1], shape[2]


def _check_structure(path: Path, graph: Graph, actual: Sequence[Op], model: Any) -> None:
    """Makes sure that a file is what we know.

    Raises:
        InputError: another structure, with the first place at which it differs.
    """
    expected = [_form_of_layer(model.get_layer(layer)) for layer in convolution_names()]
    for index, (ours, op) in enumerate(itertools.zip_longest(expected, actual)):
        theirs = None if op is None else _form_of_op(op)
        if ours != theirs:
            raise InputError(f"{path}: convolution {index} is {theirs or 'missing'}, not {ours or 'there'}: {_KNOWN}")
    counts = Counter(
        _ALIASES.get(op.name, op.name) for op in graph.ops if op.name not in (*_CONVOLUTIONS, "DEQUANTIZE")
    )
    # a fused ReLU is no operator of its own
    counts["RELU"] += sum(op.activation == "RELU" for op in graph.ops if op.name in _CONVOLUTIONS)
    if counts != _OTHERS:
        kinds = sorted(kind for kind in counts | _OTHERS if counts[kind] != _OTHERS[kind])
        differing = ", ".join(f"{counts[kind]} {kind[:40]} for {_OTHERS[kind]}" for kind in kinds[:3])
        raise InputError(f"{path}: it has {differing}: {_KNOWN}")


def _form_of_layer(layer: Any) -> str:
    kind, shape = type(layer).__name__, tuple(layer.get_weights()[0].shape)
    return f"{kind} {'x'.join(map(str, shape))} stride {layer.strides[0]}x{layer.strides[1]}"


def _form_of_op(op: Op) -> str:
    kernel = op.inputs[1] if len(op.inputs) == 3 else None
    if kernel is None or kernel.rank != 4:
        return "without a kernel"
    shape = tuple(kernel.shape[axis] for axis in (1, 2, 3, 0))
    strides = f"{op.options.get('stride_h')}x{op.options.get('stride_w')}"
    return f"{_CONVOLUTIONS[op.name]} {'x'.join(map(str, shape))} stride {strides}"


def _weights(path: Path, op: Op, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of an operator.

    Raises:
        InputError: one that has not both as constants.
    """
    weights = [constants.get(tensor.index) for tensor in op.inputs[1:3] if tensor is not None]
    if len(weights) != 2 or weights[0] is None or weights[1] is None or weights[0].ndim != 4 or weights[1].ndim != 1:
        raise InputError(f"{path}: '{op.outputs[0].name}' has no kernel and bias as float constants: {_KNOWN}")
    return weights[0], weights[1]
