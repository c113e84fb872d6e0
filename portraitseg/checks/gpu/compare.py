"""Whether the GPU's outputs are those of reference kernels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from portraitseg import contract, metrics
from portraitseg.checks.gpu.tolerance import Tolerance
from portraitseg.tflite.graph import Graph, Tensor

#: A reference output that varies less over all pixels and runs says the same of everything: any GPU would agree.
LEAST_SPREAD = 1e-4


@dataclass(frozen=True)
class Difference:
    """How far the outputs are apart, in the output's unit (a probability, for a mask).

    Attributes:
        mask_iou: IoU of the masks over the pixels of all runs, so that a run with a handful of person pixels does not
            decide; None where no output is a mask.
        fault: why that is not acceptable, None if it is.
        magnitude: greatest absolute value of the reference, at least 1: bounds grow with it.
    """

    max_abs: float | None
    mean_abs: float | None
    mask_iou: float | None
    fault: str | None
    magnitude: float = 1.0


def compare(
    graph: Graph, reference: Sequence[Sequence[np.ndarray]], gpu: Sequence[Sequence[np.ndarray]], limit: Tolerance
) -> Difference:
    """Compares all outputs of all runs.

    Args:
        graph: of the file, for the scales of quantized outputs.
        reference, gpu: runs, each with its outputs in the file's order.
        limit: for outputs of magnitude up to 1.
    """
    if len(reference) != len(gpu) or any(len(one) != len(other) for one, other in zip(reference, gpu, strict=True)):
        return Difference(None, None, None, "the GPU gave another number of outputs")
    greatest, magnitude = 0.0, 1.0
    means: list[float] = []
    masks: list[tuple[np.ndarray, np.ndarray]] = []
    faults: list[str] = []
    for position, tensor in enumerate(graph.outputs):
        ours = [_real(run[position], tensor) for run in gpu]
        theirs = [_real(run[position], tensor) for run in reference]
        if any(one.size != other.size for one, other in zip(ours, theirs, strict=True)):
            faults.append(f"output '{tensor.name}' has another size on the GPU")
            continue
        ours = [one.reshape(other.shape) for one, other in zip(ours, theirs, strict=True)]
        gap = np.abs(np.stack(ours) - np.stack(theirs))
        greatest = float(np.maximum(greatest, gap.max()))
        means.append(float(gap.mean()))
        magnitude = max(magnitude, float(np.abs(np.stack(theirs)).max()))
        faults += _faults(tensor, np.stack(theirs), gap, limit)
        if _is_mask(tensor):
            cut = contract.PROBABILITY_THRESHOLD
            masks += [(a.reshape(1, -1) > cut, b.reshape(1, -1) > cut) for a, b in zip(ours, theirs, strict=True)]
    return Difference(
        max_abs=greatest if np.isfinite(greatest) else None,
        mean_abs=float(np.mean(means)) if means and np.isfinite(means).all() else None,
        mask_iou=metrics.iou(*(np.concatenate(side, axis=1) for side in zip(*masks, strict=True))) if masks else None,
        fault=faults[0] if faults else None,
        magnitude=magnitude,
    )


def _faults(tensor: Tensor, reference: np.ndarray, gap: np.ndarray, limit: Tolerance) -> list[str]:
    if not np.isfinite(reference).all():
        return [f"the reference output '{tensor.name}' is not finite: nothing to compare with"]
    if not np.ptp(reference) > LEAST_SPREAD:
        value = float(reference.mean())
        return [f"the reference output '{tensor.name}' is {value:.4g} everywhere: a comparison would prove nothing"]
    # rounding grows with the magnitude; written so that a NaN fails
    magnitude = max(1.0, float(np.abs(reference).max()))
    faults = []
    for kind, value, most in (("", gap.max(), limit.bound), (" on average", gap.mean(), limit.mean_bound)):
        if not value <= most * magnitude:
            faults.append(f"output '{tensor.name}' differs by {value:.3g}{kind}, at most {most * magnitude:.3g}")
    return faults


def _real(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The numbers that a raw output stands for."""
    if np.issubdtype(values.dtype, np.integer) and len(tensor.scales) == 1:
        return (values.astype(np.float64) - tensor.zero_points[0]) * tensor.scales[0]
    return values.astype(np.float64)


def _is_mask(tensor: Tensor) -> bool:
    return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[3] == 1
