"""The same quality under what a phone does to a photo: each condition is one function, the same every time."""

import zlib
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.synthetic.background import draw_background

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]

#: (photo, its truth, (height, width) of the network) → both as the phone has them.
Condition = Callable[[np.ndarray, np.ndarray, tuple[int, int]], tuple[np.ndarray, np.ndarray]]

JPEG_QUALITY = 50

#: Share of the light that is left: two and a third stops.
DIM_LIGHT = 0.2

#: Noise of the amplified dim photo, in units of full white in linear light: shot noise grows with the root of the
#: light, read noise is always there. Chosen to look like a phone indoors at night: a signal to noise of 10 at mid grey.
SHOT_NOISE = 0.02
READ_NOISE = 0.004

#: Length of the smear as a share of the photo's diagonal: a hand that moves at a thirtieth of a second.
BLUR_RATIO = 0.025

#: Height of a distant person as a share of the photo's: someone who stands at the end of a room.
DISTANT_HEIGHT = 0.3


def bilinear(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Shrunk as GPUs do, bilinear without averaging: what most apps do instead of the contract's INTER_AREA."""
    height, width = size
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), mask


def jpeg_50(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compressed as messengers do."""
    _, packed = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert unpacked is not None
    return np.ascontiguousarray(unpacked[..., ::-1]), mask


def dim_light(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the light, with the noise that comes of it; the gamma is 2.2."""
    generator = np.random.default_rng(7)
    light = (image / 255.0) ** 2.2 * DIM_LIGHT
    noise = generator.standard_normal(image.shape) * np.sqrt(SHOT_NOISE**2 * light + READ_NOISE**2)
    return np.rint(255 * np.clip(light + noise, 0, 1) ** (1 / 2.2)).astype(np.uint8), mask


def grayscale(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Black and white: three equal channels of luma (BT.601)."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2), mask


def motion_blur(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Smeared along a line at 30°; the truth is where the person was in the middle of the exposure."""
    length_px = max(3, round(BLUR_RATIO * float(np.hypot(*image.shape[:2]))) | 1)
    kernel = np.zeros((length_px, length_px), np.float64)
    reach = (length_px - 1) / 2
    for step in np.linspace(-reach, reach, 8 * length_px):
        y, x = reach - step * 0.5, reach + step * np.sqrt(0.75)
        kernel[round(float(y)), round(float(x))] += 1
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), mask


def rotate_90(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Turned by a quarter, clockwise: the app forgot the sensor's orientation."""
    return np.ascontiguousarray(np.rot90(image, -1)), np.ascontiguousarray(np.rot90(mask, -1))


def distant(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The person far away: cut out by the truth, small, and on the ground before a drawn background, one a photo.

    What it tells is whether a person is found at all; the outline is one of scissors. What is ignored is left behind.
    """
    height, width = mask.shape
    # of the pixels, so that a photo has its background wherever it stands in a list
    generator = np.random.default_rng(zlib.crc32(image.tobytes()))
    scene, truth = draw_background(generator, (height, width)), np.zeros_like(mask)
    rows, columns = np.nonzero(contract.truth_to_mask(mask))
    if not rows.size:
        return scene, truth
    person = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    share = DISTANT_HEIGHT * height / mask[person].shape[0]
    small = max(1, round(DISTANT_HEIGHT * height)), min(width, max(1, round(share * mask[person].shape[1])))
    cut = cv2.resize(image[person], small[::-1], interpolation=cv2.INTER_AREA)
    outline = cv2.resize(mask[person], small[::-1], interpolation=cv2.INTER_AREA)
    left = int(generator.integers(width - small[1] + 1))
    ground = slice(height - small[0], height), slice(left, left + small[1])
    alpha = outline[..., None] / 255.0
    scene[ground] = np.rint(alpha * cut + (1 - alpha) * scene[ground])
    truth[ground] = outline
    return scene, truth


CONDITIONS: dict[str, Condition] = {
    "bilinear": bilinear,
    "jpeg_50": jpeg_50,
    "dim_light": dim_light,
    "grayscale": grayscale,
    "motion_blur": motion_blur,
    "rotate_90": rotate_90,
    "distant": distant,
}

#: The photos as they are, in the same table.
CLEAN = "clean"


def clean(image: Image, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Nothing is done to it."""
    return image, mask


ALL_CONDITIONS: dict[str, Condition] = {CLEAN: clean, **CONDITIONS}
