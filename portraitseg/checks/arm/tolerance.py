"""How far an emulated core may be from this machine's own LiteRT, by how the file stores and computes its numbers."""

from portraitseg.checks.gpu.tolerance import Tolerance, arithmetic, output_step
from portraitseg.tflite import flatbuffer
from portraitseg.tflite.graph import DAMAGE, Graph

#: Name of the metadata by which a file allows XNNPACK to compute in half precision.
PRECISION_NAME = "reduced_precision_support"

#: What it says: half precision throughout, or half-precision numbers that are summed in single precision. XNNPACK's
#: kernels sum as they store, so a file of the second kind is computed in single precision.
HALF, HALF_STORED = b"fp16accfp16", b"fp16accfp32"


def is_half_precision(content: bytes) -> bool:
    """Whether a file allows phones to compute in half precision; one whose metadata is damaged does not."""
    try:
        return (flatbuffer.read_metadata(content, PRECISION_NAME) or b"").startswith(HALF)
    except DAMAGE:
        return False


def tolerance(graph: Graph, is_half: bool, has_half: bool) -> Tolerance:
    """The bound for a file on a core.

    Args:
        graph: of the file.
        is_half: whether it allows half precision.
        has_half: whether the core computes in it.
    """
    kind = arithmetic(graph)
    if kind in ("int8", "int16"):
        step = output_step(graph)
        reason = f"one step of {step:.3g}, 1 in 50 on average: whole files were equal bit by bit on every core"
        return Tolerance(1.01 * step, step / 50, reason)
    if kind == "dynamic":
        return Tolerance(0.02, 5e-4, "activations are rounded to 8 bits by either machine's own sums")
    if is_half and has_half:
        reason = "half precision: docs/arm.md has what was measured; the mean judges, single pixels of outlines move"
        return Tolerance(0.1, 5e-3, reason)
    return Tolerance(2e-4, 4e-6, "single precision in another order of summation, as on GPUs: 1.8e-5 was measured")
