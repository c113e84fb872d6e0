"""Random changes of a photo and its mask while training (numpy and OpenCV only: worker processes import this).

Every augmentation is one function `name(image, mask, rng, *, …) -> (image, mask)` on RGB bytes and a mask 0..255, both
at the network's size. The photometric ones hand the mask back as it came; the geometric ones move both by the same map.
Nothing is changed in place. `low` and `high` bound what is drawn; each docstring lists the draws in their order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]
Pair = tuple[Image, Mask]
Augmentation = Callable[..., Pair]


@dataclass(frozen=True)
class Bounds:
    """The values that a parameter may take, ends included."""

    least: float
    most: float


Offset = Annotated[float, Bounds(-255.0, 255.0)]
"Grey levels that are added."
Kernel = Annotated[float, Bounds(1.0, 31.0)]
"Side of a filter, px; rounded to an odd number."
Deviation = Annotated[float, Bounds(0.0, 255.0)]
"Standard deviation of noise, grey levels."
Sigma = Annotated[float, Bounds(0.0, 10.0)]
"Sigma of a Gaussian filter, px."
Factor = Annotated[float, Bounds(0.05, 20.0)]
"A ratio, 1 changes nothing."
Share = Annotated[float, Bounds(0.0, 1.0)]
Side = Annotated[float, Bounds(0.1, 1.0)]
"Side of a window as a share of the picture's."
Quality = Annotated[float, Bounds(1.0, 100.0)]
Stops = Annotated[float, Bounds(0.0, 8.0)]
"Halvings or doublings of light."

#: The byte b as the (b + 0.5) / 256 quantile of the standard normal, rescaled to variance 1; ends at 2.9 sigma.
_QUANTILES = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])
NORMAL_OF_BYTE: Float[np.ndarray, "256"] = _QUANTILES / _QUANTILES.std()

GREYS: Float[np.ndarray, "256"] = np.arange(256, dtype=np.float64)

#: ITU-R BT.601 luma of R, G, B.
LUMA = np.array([0.299, 0.587, 0.114])


# ---- photometric: the mask stays


def add(image: Image, mask: Mask, rng: np.random.Generator, *, low: Offset = -25.0, high: Offset = 25.0) -> Pair:
    """Adds one value, low..high grey levels, to every channel. Draws: the value."""
    return cv2.LUT(image, _to_bytes(GREYS + rng.uniform(low, high))), mask


def add_per_channel(
    image: Image, mask: Mask, rng: np.random.Generator, *, low: Offset = -15.0, high: Offset = 15.0
) -> Pair:
    """Adds a value of its own, low..high grey levels, to each channel. Draws: the values of R, G, B."""
    offsets = rng.uniform(low, high, 3)
    return cv2.LUT(image, _to_bytes(GREYS[:, None, None] + offsets)), mask


def add_per_element(
    image: Image, mask: Mask, rng: np.random.Generator, *, low: Offset = -12.0, high: Offset = 12.0
) -> Pair:
    """Adds a value of its own, low..high grey levels, to each channel of each pixel. Draws: h·w·3 bytes."""
    return _add_noise(image, low + (high - low) * (GREYS + 0.5) / 256, rng), mask


def gaussian_noise(
    image: Image, mask: Mask, rng: np.random.Generator, *, low: Deviation = 2.0, high: Deviation = 10.0
) -> Pair:
    """Adds normal noise, of a deviation of low..high grey levels, to each channel of each pixel.

    Draws: the deviation, then h·w·3 bytes.
    """
    return _add_noise(image, NORMAL_OF_BYTE * rng.uniform(low, high), rng), mask


def occlusion_patches(
    image: Image,
    mask: Mask,
    rng: np.random.Generator,
    *,
    low: Share = 0.05,
    high: Share = 0.25,
    most: Annotated[float, Bounds(1.0, 16.0)] = 3.0,
) -> Pair:
    """Covers 1..`most` rectangles, each side low..high of the picture's side, with a grey, a colour or noise.

    The mask keeps what it said under a patch, as in Cutout (DeVries and Taylor 2017, arXiv:1708.04552) and random
    erasing (Zhong et al. 2017, arXiv:1708.04896): the network learns to fill a person in from the surroundings. A
    patch on the background is background already. A real thing held before the body is data's to teach, not ours.

    Draws: the number of patches, then for each: height, width, top, left, filling, and the filling's bytes.
    """
    height, width = mask.shape
    covered = image.copy()
    for _ in range(rng.integers(1, round(most), endpoint=True)):
        rows = _round_within(rng.uniform(low, high) * height, 1, height)
        columns = _round_within(rng.uniform(low, high) * width, 1, width)
        top = rng.integers(0, height - rows, endpoint=True)
        left = rng.integers(0, width - columns, endpoint=True)
        filling_shape = [(1, 1, 1), (1, 1, 3), (rows, columns, 3)][rng.integers(3)]
        covered[top : top + rows, left : left + columns] = rng.integers(0, 256, filling_shape, np.uint8)
    return covered, mask


def mean_blur(image: Image, mask: Mask, rng: np.random.Generator, *, low: Kernel = 3.0, high: Kernel = 5.0) -> Pair:
    """Box filter, its side low..high px. Draws: the side."""
    side = _odd(rng.uniform(low, high))
    return cv2.blur(image, (side, side)), mask


def median_blur(image: Image, mask: Mask, rng: np.random.Generator, *, low: Kernel = 3.0, high: Kernel = 5.0) -> Pair:
    """Median filter, its side low..high px (above 5 px it is several times slower). Draws: the side."""
    return cv2.medianBlur(image, _odd(rng.uniform(low, high))), mask


def gaussian_blur(image: Image, mask: Mask, rng: np.random.Generator, *, low: Sigma = 0.3, high: Sigma = 1.5) -> Pair:
    """Gaussian filter of sigma low..high px, cut at 3 sigma. Draws: sigma."""
    sigma = rng.uniform(low, high)
    side = 2 * math.ceil(3 * sigma) + 1
    # OpenCV takes sigma 0 to mean "choose from the side"; a side of 1 leaves the photo as it is
    return cv2.GaussianBlur(image, (side, side), sigmaX=sigma, sigmaY=sigma), mask


def motion_blur(image: Image, mask: Mask, rng: np.random.Generator, *, low: Kernel = 3.0, high: Kernel = 15.0) -> Pair:
    """Smears along a straight line of low..high px, at any angle: the hand moved, or the person.

    The mask stays: it says where the person was in the middle of the exposure. Draws: the length, the angle.
    """
    side = _odd(rng.uniform(low, high))
    angle = rng.uniform(0, math.pi)
    reach = (side - 1) / 2
    # eight points a pixel: each pixel's weight is known to an eighth of its share
    along = np.linspace(-reach, reach, 8 * side)
    rows, columns = (np.rint(reach + along * part).astype(int) for part in (math.sin(angle), math.cos(angle)))
    kernel = np.zeros((side, side))
    np.add.at(kernel, (rows, columns), 1 / along.size)
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), mask


def gamma(image: Image, mask: Mask, rng: np.random.Generator, *, low: Factor = 0.7, high: Factor = 1.5) -> Pair:
    """Raises brightness in [0, 1] to the power low..high: above 1 darkens. Draws: the power, log-uniform."""
    return cv2.LUT(image, _to_bytes(255 * (GREYS / 255) ** _log_uniform(rng, low, high))), mask


def colour_jitter(
    image: Image,
    mask: Mask,
    rng: np.random.Generator,
    *,
    brightness: Share = 0.15,
    contrast: Share = 0.2,
    saturation: Share = 0.3,
    temperature: Share = 0.1,
) -> Pair:
    """Changes saturation, colour temperature, contrast and brightness, each by up to its share either way.

    All four are linear in RGB, so they are one 3 x 4 matrix and bytes are clipped once, at the end: saturation mixes
    with BT.601 luma, temperature trades red for blue, contrast turns about mid-grey, brightness adds a share of 255.

    Draws: saturation, temperature, contrast, brightness.
    """
    share = rng.uniform(-1, 1, 4) * (saturation, temperature, contrast, brightness)
    saturate = (1 + share[0]) * np.eye(3) - share[0] * LUMA
    warm = np.diag([1 + share[1], 1, 1 - share[1]])
    linear = (1 + share[2]) * warm @ saturate
    constant = np.full((3, 1), 255 * share[3] - 127.5 * share[2])
    return cv2.transform(image, np.hstack([linear, constant])), mask


def grayscale(image: Image, mask: Mask, rng: np.random.Generator) -> Pair:
    """Takes the colour away (BT.601 luma in all three channels). Draws nothing."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), mask


def jpeg(image: Image, mask: Mask, rng: np.random.Generator, *, low: Quality = 30.0, high: Quality = 90.0) -> Pair:
    """Compresses and reads back at a JPEG quality of low..high. Draws: the quality."""
    quality = round(rng.uniform(low, high))
    # OpenCV's codec takes BGR: with the order wrong, red and blue would trade their shares of luma
    is_encoded, stream = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    decoded = cv2.imdecode(stream, cv2.IMREAD_COLOR) if is_encoded else None
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), mask


def low_light(
    image: Image, mask: Mask, rng: np.random.Generator, *, low: Stops = 1.0, high: Stops = 3.0, noise: Deviation = 6.0
) -> Pair:
    """Under-exposes by low..high stops and adds the sensor's noise.

    Light is brightness to the power 2.2 (sRGB, nearly) and each stop halves it. The noise is normal with a deviation
    of 0..`noise` grey levels, alike in bright and dark: a simplification, real noise also grows with the light.

    Draws: the stops, the deviation, then h·w·3 bytes.
    """
    gain = 2 ** (-rng.uniform(low, high) / 2.2)
    deviation = rng.uniform(0, noise)
    return _add_noise(cv2.LUT(image, _to_bytes(GREYS * gain)), NORMAL_OF_BYTE * deviation, rng), mask


def backlight(
    image: Image,
    mask: Mask,
    rng: np.random.Generator,
    *,
    low: Stops = 0.5,
    high: Stops = 2.5,
    glare: Stops = 1.0,
    softness: Share = 0.05,
) -> Pair:
    """Takes low..high stops of light from the person and adds 0..`glare` to what is behind: a window, the sun.

    Light is brightness to the power 2.2, as in `low_light`. The step of light is as soft as a Gaussian filter of a
    sigma of 0..`softness` of the shorter side makes the mask, so that it does not draw the outline.

    Draws: the person's stops, the background's, the softness.
    """
    taken, added = rng.uniform(low, high), rng.uniform(0, glare)
    sigma = rng.uniform(0, softness) * min(mask.shape)
    person = cv2.GaussianBlur(mask, (0, 0), sigma) if sigma > 0 else mask
    gain_of_byte = 2 ** ((added - (taken + added) * GREYS / 255) / 2.2)
    return _to_bytes(image * gain_of_byte[person][..., None]), mask


# ---- geometric: image and mask move together


def vertical_flip(image: Image, mask: Mask, rng: np.random.Generator) -> Pair:
    """Turns upside down. Draws nothing."""
    return cv2.flip(image, 0), cv2.flip(mask, 0)


def horizontal_flip(image: Image, mask: Mask, rng: np.random.Generator) -> Pair:
    """Swaps left and right. Draws nothing."""
    return cv2.flip(image, 1), cv2.flip(mask, 1)


def quarter_turn(image: Image, mask: Mask, rng: np.random.Generator) -> Pair:
    """Turns by 90° either way, stretched to the old shape: the app forgot the sensor's orientation. Draws: the way."""
    height, width = mask.shape
    way = cv2.ROTATE_90_CLOCKWISE if rng.integers(2) else cv2.ROTATE_90_COUNTERCLOCKWISE
    image, mask = cv2.rotate(image, way), cv2.rotate(mask, way)
    if height == width:
        return image, mask
    return cv2.resize(image, (width, height)), cv2.resize(mask, (width, height))


def rotate_scale(
    image: Image,
    mask: Mask,
    rng: np.random.Generator,
    *,
    degrees: Annotated[float, Bounds(0.0, 180.0)] = 15.0,
    low: Factor = 0.8,
    high: Factor = 1.25,
    translation: Share = 0.1,
) -> Pair:
    """One affine map: a turn, a zoom about the centre and a shift, bilinear; what it uncovers is a reflection.

    Image and mask reflect alike, so a reflected shoulder is labelled person.

    Args:
        degrees: greatest turn, either way.
        low, high: zoom; above 1 enlarges.
        translation: greatest shift, either way, as a share of each side.

    Draws: turn, zoom (log-uniform), shift right, shift down.
    """
    height, width = mask.shape
    turn = rng.uniform(-degrees, degrees)
    zoom = _log_uniform(rng, low, high)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, zoom)
    matrix[0, 2] += rng.uniform(-translation, translation) * width
    matrix[1, 2] += rng.uniform(-translation, translation) * height

    def warp(pixels: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
        return cv2.warpAffine(
            pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )

    return warp(image), warp(mask)


def crop_stretch(image: Image, mask: Mask, rng: np.random.Generator, *, low: Side = 0.6, high: Side = 1.0) -> Pair:
    """Cuts out a window, each side low..high of the picture's side, and stretches it to the full size, bilinear.

    The two sides are drawn apart: aspect changes by at most high / low, as when photos of any shape are stretched to
    the network's input.

    Draws: height, width, top, left.
    """
    height, width = mask.shape
    rows = _round_within(rng.uniform(low, high) * height, 1, height)
    columns = _round_within(rng.uniform(low, high) * width, 1, width)
    top = rng.integers(0, height - rows, endpoint=True)
    left = rng.integers(0, width - columns, endpoint=True)
    window = np.s_[top : top + rows, left : left + columns]
    if (rows, columns) == (height, width):
        return image, mask
    # never shrinks, so bilinear does not alias
    return cv2.resize(image[window], (width, height)), cv2.resize(mask[window], (width, height))


AUGMENTATIONS: dict[str, Augmentation] = {
    "add": add,
    "add_per_channel": add_per_channel,
    "add_per_element": add_per_element,
    "gaussian_noise": gaussian_noise,
    "occlusion_patches": occlusion_patches,
    "mean_blur": mean_blur,
    "median_blur": median_blur,
    "gaussian_blur": gaussian_blur,
    "motion_blur": motion_blur,
    "gamma": gamma,
    "colour_jitter": colour_jitter,
    "grayscale": grayscale,
    "jpeg": jpeg,
    "low_light": low_light,
    "backlight": backlight,
    "vertical_flip": vertical_flip,
    "horizontal_flip": horizontal_flip,
    "quarter_turn": quarter_turn,
    "rotate_scale": rotate_scale,
    "crop_stretch": crop_stretch,
}

#: Those that move the mask with the image; all others leave it as it is.
GEOMETRIC = frozenset({"vertical_flip", "horizontal_flip", "quarter_turn", "rotate_scale", "crop_stretch"})


# ---- pieces


def _to_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Rounds and clips to 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _add_noise(image: Image, offset_of_byte: Float[np.ndarray, "256"], rng: np.random.Generator) -> Image:
    """Adds to each channel of each pixel the offset that a random byte picks.

    A byte and a table look-up cost a tenth of drawing normal numbers, and OpenCV's own generator is global state.
    """
    offsets = np.rint(offset_of_byte).astype(np.int16)
    noise = cv2.LUT(rng.integers(0, 256, image.shape, np.uint8), offsets)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Halving is as likely as doubling where low..high allow both."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _odd(side: float) -> int:
    """The odd number nearest to the side of a filter."""
    return 2 * round((side - 1) / 2) + 1


def _round_within(value: float, least: int, most: int) -> int:
    return min(max(round(value), least), most)
