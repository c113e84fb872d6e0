"""Whether an exported file says what its Keras model says, on real photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from portraitseg import contract, metrics
from portraitseg.errors import CheckFailed
from portraitseg.manifest import Parity
from portraitseg.runners import NotRunnable, Runner, open_runner

Photos = Sequence[UInt8[np.ndarray, "_ _ 3"]]

#: Bounds of every recipe but palette4; measured over the others and networks: shift up to 0.08 px, gain error 0.004.
#: A half-pixel convention that differs shifts by 0.5, an output scale that is off by a fiftieth has a gain of 0.98.
MAX_SHIFT_PX = 0.25
MAX_GAIN_ERROR = 0.01

#: Below this standard deviation the Keras model says the same everywhere, and any comparison would pass.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Bound:
    """How far a file may be from its reference; None: not judged.

    Attributes:
        max_abs: greatest difference of a probability, over all pixels of all photos.
        mean_abs: mean difference.
        mask_iou: least IoU of the two masks at the network's size, over the pixels of all photos.
        shift_px: greatest shift; wider only for files whose geometry is that of another one that is judged.
        gain_error: greatest difference of the gain from 1.
    """

    max_abs: float | None
    mean_abs: float
    mask_iou: float
    shift_px: float = MAX_SHIFT_PX
    gain_error: float = MAX_GAIN_ERROR


@dataclass(frozen=True)
class Reference:
    """Photos with what a Keras model says of them.

    Attributes:
        photos: RGB, of any size.
        probabilities: at the network's size, one a photo.
        name: of the Keras model, for the manifest.
    """

    photos: Photos
    probabilities: Float32[np.ndarray, "n h2 w2"]
    name: str = "keras"


def predict_keras(model: Any, photos: Photos, name: str = "keras") -> Reference:
    """Runs a Keras model on photos, by the contract; `name` is what the manifest calls it.

    Raises:
        CheckFailed: it says the same of every pixel, so that nothing can be compared with it.
    """
    inputs = [contract.image_to_inputs(photo, model.input_shape[1:3]) for photo in photos]
    probabilities = np.stack([model(item, training=False).numpy()[0, :, :, 0] for item in inputs])
    if not probabilities.std() > _LEAST_SPREAD:
        raise CheckFailed(
            f"{model.name}: the probability is {probabilities.mean():.3f} everywhere on {len(photos)} photos, so "
            "parity would prove nothing: train it longer"
        )
    return Reference(photos, probabilities, name)


@dataclass(frozen=True)
class Deviation:
    """How a file differs from its reference.

    Attributes:
        max_abs, mean_abs, mask_iou: as in `Bound`.
        shift_px: by how much the file's masks lie further down and right than the reference's.
        gain: the file's probabilities as a multiple of the reference's.
    """

    max_abs: float
    mean_abs: float
    mask_iou: float
    shift_px: tuple[float, float]
    gain: float

    def faults(self, bound: Bound) -> list[str]:
        """What is out of bounds, in words; written so that a NaN is."""
        checks = [
            (
                f"max_abs {self.max_abs:.2g}",
                f"at most {bound.max_abs}",
                bound.max_abs is None or self.max_abs <= bound.max_abs,
            ),
            (f"mean_abs {self.mean_abs:.2g}", f"at most {bound.mean_abs}", self.mean_abs <= bound.mean_abs),
            (f"mask IoU {self.mask_iou:.4f}", f"at least {bound.mask_iou}", self.mask_iou >= bound.mask_iou),
            (
                f"shifted by {self.shift_px[0]:.2f}, {self.shift_px[1]:.2f} px",
                f"at most {bound.shift_px}",
                max(map(abs, self.shift_px)) <= bound.shift_px,
            ),
            (f"gain {self.gain:.4f}", f"1 ± {bound.gain_error}", abs(self.gain - 1) <= bound.gain_error),
        ]
        return [f"{figure} ({limit})" for figure, limit, is_in in checks if not is_in]


def measure(path: Path, reference: Reference, bound: Bound) -> tuple[Parity, str | None]:
    """Compares a file with its Keras model.

    Returns:
        What the manifest says (`not_run` where the file's runtime does not exist), and what is out of bounds, if any.
    """
    try:
        runner = open_runner(path, threads=2)
    except NotRunnable as error:
        return Parity(reference=reference.name, not_run=f"needs {error.needs}"), None
    deviation = compare([runner.predict(photo) for photo in reference.photos], reference)
    faults = deviation.faults(bound)
    result = Parity(
        reference=reference.name,
        max_abs=deviation.max_abs,
        mean_abs=deviation.mean_abs,
        mask_iou=deviation.mask_iou,
        bound=bound.max_abs,
        passed=not faults,
        photos=len(reference.photos),
    )
    return result, "beside Keras " + ", ".join(faults) if faults else None


def compare(outputs: Sequence[Float32[np.ndarray, "h w"]], reference: Reference) -> Deviation:
    """Compares probabilities with those of the Keras model, photo by photo.

    Raises:
        CheckFailed: a probability that is not a number.
    """
    ours, theirs = np.stack(outputs).astype(np.float64), reference.probabilities.astype(np.float64)
    if not np.isfinite(ours).all():
        raise CheckFailed("parity: the file gives probabilities that are not finite")
    difference = ours - theirs
    threshold = contract.PROBABILITY_THRESHOLD
    # one mask of all photos: one whose person has a handful of pixels must not decide
    mask, expected = (array.reshape(-1, array.shape[2]) > threshold for array in (ours, theirs))
    # to first order, a picture moved by s differs by -s times its gradient: least squares over all pixels. Rounding
    # noise averages out, so that half a pixel shows even where int8 noise is larger than its effect.
    gradient = np.stack([axis.ravel() for axis in np.gradient(theirs, axis=(1, 2))], axis=1)
    down, right = -np.linalg.lstsq(gradient, difference.ravel(), rcond=None)[0]
    return Deviation(
        max_abs=float(np.abs(difference).max()),
        mean_abs=float(np.abs(difference).mean()),
        mask_iou=metrics.iou(mask, expected),
        shift_px=(float(down), float(right)),
        gain=float((ours * theirs).sum() / (theirs**2).sum()),
    )


def is_equal_to_rgb(rgba: Runner, rgb: Runner, photos: Photos, seed: int = 0) -> bool:
    """Whether an RGBA file gives the very bits of its RGB twin, under an alpha of noise."""
    random = np.random.default_rng(seed)
    for photo in photos:
        inputs = rgba.prepare(photo)
        alpha = random.integers(0, 256, inputs.shape[:3], dtype=np.uint8)
        inputs[..., 3] = alpha if inputs.dtype == np.uint8 else contract.bytes_to_float(alpha)
        if not np.array_equal(rgba.run(inputs), rgb.run(rgb.prepare(photo))):
            return False
    return True
