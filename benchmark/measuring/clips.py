"""Clips with exact truth, of one photo each: a camera that stands still, one that pans, a person who walks by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from portraitseg.synthetic import portraits as synthetic

#: Frames of a clip, and the standard deviation in 0..255 of each frame's noise.
FRAMES, NOISE = 8, 4.0

#: How much the light of a still clip changes from frame to frame, and the quality of its JPEGs.
_LIGHT, _QUALITY = 0.01, 90

#: Pixels a frame by which the picture pans.
PAN_PX = 4

#: Height and width of the pictures in which a drawn person moves, and by how many pixels a frame.
MOVING_SIZE, MOVING_PX = (360, 480), (3, 8, 24)


@dataclass(frozen=True)
class Clip:
    """Frames and truths of one size.

    Attributes:
        kind: `still`, `pan`, or `moving_<pixels a frame>`.
        frames: RGB.
        truths: alpha in [0, 1].
    """

    kind: str
    frames: Sequence[UInt8[np.ndarray, "h w 3"]]
    truths: Sequence[Float32[np.ndarray, "h w"]]

    def uncovered(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Where the person was a frame before and is not any more: a smoother that lags still sees one there."""
        return (self.truths[index - 1] > 0.5) & (self.truths[index] <= 0.5)


def still(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], seed: int = 7) -> Clip:
    """A camera on a table: noise, a light that flickers a little, JPEG; nothing moves."""
    generator = np.random.default_rng(seed)
    truth = mask.astype(np.float32) / 255
    frames = []
    for _ in range(FRAMES):
        light = 1 + generator.uniform(-_LIGHT, _LIGHT)
        frames.append(_through_jpeg(_noisy(image * light, generator)))
    return Clip("still", frames, [truth] * FRAMES)


def pan(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], seed: int = 7) -> Clip:
    """A camera that turns: whole pixels to the side, so that the truth moves along exactly."""
    generator = np.random.default_rng(seed)
    width = mask.shape[1]
    step = min(PAN_PX, max(0, (width - 1) // (2 * FRAMES)))
    reach = width - step * (FRAMES - 1)
    frames, truths = [], []
    for index in range(FRAMES):
        window = slice(index * step, index * step + reach)
        frames.append(_noisy(image[:, window], generator))
        truths.append(np.ascontiguousarray(mask[:, window]).astype(np.float32) / 255)
    return Clip("pan", frames, truths)


def moving(index: int, step_px: int, seed: int = 7) -> Clip:
    """A drawn person who moves sideways before a background that stands still, with the exact alpha."""
    generator = np.random.default_rng([seed, index])
    height, width = MOVING_SIZE
    colour, alpha, background = synthetic.render_layers(index, MOVING_SIZE, seed)
    start = -step_px * (FRAMES - 1) // 2
    frames, truths = [], []
    for frame in range(FRAMES):
        shift = np.array([[1, 0, start + step_px * frame], [0, 1, 0]], np.float32)
        moved, truth = (
            # what comes in from the side goes on as it is at the edge
            cv2.warpAffine(layer, shift, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            for layer in (colour, alpha)
        )
        frames.append(_noisy(synthetic.compose(moved, truth, background), generator))
        truths.append(truth.astype(np.float32) / 255)
    return Clip(f"moving_{step_px}", frames, truths)


def moving_clips(count: int, first: int = 0) -> Iterator[Clip]:
    """`count` persons from number `first` on, each at each speed."""
    for index in range(first, first + count):
        for step_px in MOVING_PX:
            yield moving(index, step_px)


def _noisy(values: np.ndarray, generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    noise = generator.normal(0, NOISE, values.shape)
    return np.clip(np.rint(values + noise), 0, 255).astype(np.uint8)


def _through_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
