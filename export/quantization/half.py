"""Whether a network may be computed in half precision: no overflow for any photo, and masks that stay what they are."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from export.product.product import Unsuitable
from portraitseg import contract, metrics
from portraitseg.checks.arm.overflow import CLAMP, prove
from portraitseg.checks.arm.simulate import HalfNetwork
from portraitseg.errors import InputError
from portraitseg.runners import open_runner

#: Photos that are simulated: 0.02 to 0.08 s each for the contour networks.
_PHOTOS = 8

#: What `clamps` puts into a file.
_CLAMPS = ("MINIMUM", "MAXIMUM")

#: How far half precision may be from single precision, over all photos. Measured on released networks (docs/arm.md):
#: mean 3e-4 to 5e-4 and mask IoU 0.9991 to 0.9997 over 1,122 photos, 7.8e-3 and 0.966 on the worst one. 8 bits in place
#: of 11 are refused.
MEAN_BOUND = 3e-3
MASK_IOU_BOUND = 0.997


def check_half(path: Path, inputs: Float32[np.ndarray, "n h w c"]) -> None:
    """Refuses half precision where it might overflow, where a clamp acts on a photo, where masks change; and any NaN.

    Args:
        path: of a float .tflite; of one for RGBA, a constant alpha is added to the inputs.
        inputs: photos in [0, 1]; black, white, noise and saturated colours are looked at too.

    Raises:
        Unsuitable: overflow cannot be excluded, half precision cannot be simulated here, or the masks are others.
    """
    if fault := prove(path).fault:
        raise Unsuitable(f"half precision may overflow: {fault}")
    try:
        network = HalfNetwork(path)
    except InputError as error:
        raise Unsuitable(str(error)) from error
    runner = open_runner(path)
    ours, theirs = [], []
    photos = inputs[:: max(1, len(inputs) // _PHOTOS)][:_PHOTOS]
    for place, image in enumerate([*photos, *extremes(photos.shape[1:])]):
        batch = image[None]
        if runner.channels == "rgba":
            batch = np.concatenate([batch, np.ones_like(batch[..., :1])], axis=3)
        try:
            probability, greatest = network.run(batch)
        except InputError as error:
            raise Unsuitable(f"{path.name}: {error}") from error
        if not np.isfinite(probability).all():
            raise Unsuitable(f"half precision gives numbers that are not finite, on input {place}")
        if place < len(photos):
            if acting := [name for name, most in greatest.items() if name.endswith(_CLAMPS) and most >= CLAMP]:
                raise Unsuitable(f"half precision needs a clamp at {CLAMP:g} that photo {place} reaches: {acting[0]}")
            ours.append(probability[0, :, :, 0])
            theirs.append(runner.run(batch)[0, :, :, 0])
    mean = float(np.abs(np.stack(ours) - np.stack(theirs)).mean())
    cut = contract.PROBABILITY_THRESHOLD
    iou = metrics.iou(np.concatenate(ours) > cut, np.concatenate(theirs) > cut)
    if not (mean <= MEAN_BOUND and iou >= MASK_IOU_BOUND):
        raise Unsuitable(
            f"half precision moves probabilities by {mean:.2g} on average (at most {MEAN_BOUND}), "
            f"mask IoU {iou:.4f} (at least {MASK_IOU_BOUND})"
        )


def extremes(shape: tuple[int, ...], seed: int = 0) -> list[Float32[np.ndarray, "h w c"]]:
    """Black, white, noise, and noise of the eight saturated colours."""
    random = np.random.default_rng(seed)
    noise = random.random(shape, dtype=np.float32)
    return [np.zeros(shape, np.float32), np.ones(shape, np.float32), noise, (noise > 0.5).astype(np.float32)]
