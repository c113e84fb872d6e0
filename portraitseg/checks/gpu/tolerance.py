"""How far a GPU may be from reference kernels, by how the file stores and computes its numbers."""

from dataclasses import dataclass
from typing import Literal

from portraitseg.tflite.graph import Graph, Op, Tensor

#: How a file computes: `dynamic` has 8-bit weights and float activations.
Arithmetic = Literal["fp32", "fp16", "dynamic", "int8", "int16"]
#: What the GPU computes in.
Precision = Literal["fp32", "fp16"]

_QUANTIZED = ("INT8", "UINT8")


@dataclass(frozen=True)
class Tolerance:
    """A bound on differences of the output, in the output's own unit.

    Attributes:
        bound: greatest difference, for outputs of magnitude up to 1; it grows with the magnitude beyond that.
        mean_bound: mean difference, likewise.
        reason: where the numbers come from.
    """

    bound: float
    mean_bound: float
    reason: str


def arithmetic(graph: Graph) -> Arithmetic:
    """How a file computes, read from its tensors and not from its name."""
    inside = [tensor for op in graph.ops for tensor in op.outputs]
    if any(tensor.dtype == "INT16" for tensor in inside):
        return "int16"
    if any(tensor.dtype in _QUANTIZED for tensor in inside):
        return "int8"
    constants = {tensor.dtype for op in graph.ops for tensor in op.constant_inputs}
    if "INT8" in constants:
        return "dynamic"
    return "fp16" if "FLOAT16" in constants else "fp32"


def tolerance(
    graph: Graph,
    precision: Precision,
    kernels: str | None = "reference",
    apart: tuple[float, float] = (0.0, 0.0),
    is_dequantized: bool = False,
) -> Tolerance:
    """The bound for a file.

    Args:
        graph: of the file.
        precision: what the GPU computes in.
        kernels: what it is compared with: `reference` kernels, or `xnnpack`.
        apart: how far XNNPACK is from the reference kernels on the same inputs, greatest and mean; of 8-bit files.
        is_dequantized: whether the reference had its 8-bit weights dequantized, as the GPU has.
    """
    kind = arithmetic(graph)
    if kind in ("int8", "int16"):
        step = output_step(graph)
        # Each layer may round to the step beside; a trained network forgives that (7 steps at most, a third of one on
        # average, on Fast-SCNN at 64 px), one with random weights does not, nor on the CPU: GPU and XNNPACK are then
        # about as far from the reference kernels (0.7 to 1.3 times in the greatest, 0.98 to 1.02 times on average).
        bound, mean = max(12 * step, 2 * apart[0]), max(step, 1.5 * apart[1])
        reason = f"12 steps of {step:.3g} and on average 1, or 2 and 1.5 times what XNNPACK differs: each layer rounds"
        return Tolerance(bound, mean, reason)
    if all(tensor.dtype in ("INT32", "BOOL") for tensor in graph.outputs):
        return Tolerance(0.0, 0.0, "whole numbers are equal or wrong")
    if precision == "fp16":
        # Single pixels of a steep outline move far: 0.03 on Fast-SCNN at 64 px, 0.27 on MediaPipe's landscape model,
        # while the mean is 0.0018 and 0.0015. So it is the mean that judges.
        return Tolerance(0.5, 5e-3, "16-bit arithmetic: 0.27 at most and 0.0018 on average were measured")
    if kind == "dynamic" and not is_dequantized:
        # the CPU rounds activations to 8 bits, the GPU does not, and how far that carries is the network's: XNNPACK and
        # the reference kernels round alike, so nothing measured here bounds it. Only what no rounding does is refused
        reason = "the CPU rounds activations to 8 bits, a GPU does not; its weights cannot be dequantized to compare"
        return Tolerance(0.5, 5e-2, reason)
    if kernels == "xnnpack":
        # 2.1e-4 and on average 8e-8 on MediaPipe's models, at steep outlines
        return Tolerance(6e-4, 1e-6, "XNNPACK approximates sigmoid and hard-swish: 2.1e-4 was measured on MediaPipe's")
    # trained networks: 2e-6 and on average 5e-8. With random weights single pixels of PortraitNet move by 8.2e-5, on
    # average by 1.6e-6; 2.4 times that still tells a kernel that was rounded to 8 bits
    reason = "32 bits in another order of summation: 8.2e-5 at most and 1.6e-6 on average were measured"
    return Tolerance(2e-4, 4e-6, reason)


def output_step(graph: Graph) -> float:
    """The largest difference that one step of a quantized tensor makes at the output.

    A step of the logits moves the probability by up to a quarter of their scale (the steepest slope of the sigmoid),
    which may be several steps of the output itself.
    """
    steps = []
    for output in graph.outputs:
        tensor, op = output, _maker(graph, output)
        while op is not None and op.name in ("DEQUANTIZE", "QUANTIZE") and op.inputs[0] is not None:
            tensor, op = op.inputs[0], _maker(graph, op.inputs[0])
        step = tensor.scales[0] if tensor.scales else 1 / 256
        while op is not None and op.name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR") and op.inputs[0] is not None:
            op = _maker(graph, op.inputs[0])
        if op is not None and op.name == "LOGISTIC" and op.inputs[0] is not None and op.inputs[0].scales:
            step = max(step, op.inputs[0].scales[0] / 4)
        steps.append(step)
    return max(steps)


def _maker(graph: Graph, tensor: Tensor) -> Op | None:
    return next((op for op in graph.ops if tensor.index in {made.index for made in op.outputs}), None)
