"""The one place where pixels become tensors and tensors become masks (numpy and OpenCV only).

Training, export, parity and benchmark all call these functions, so a mask cannot be wrong because two of them
normalised differently. Whatever other normalisation a network wants is inside the network.
"""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

#: Probability above which a pixel is person, and the 8-bit value above which a mask in bytes is. Exactly one half is
#: background in both: see `probability_to_bytes`.
PROBABILITY_THRESHOLD = 0.5
MASK_THRESHOLD = 127

#: The scale of uint8 input; its zero point is 0. Camera bytes mean the same to every file.
INPUT_SCALE = 1 / 255

Channels = Literal["rgb", "rgba"]
CHANNEL_COUNT: dict[str, int] = {"rgb": 3, "rgba": 4}


def resize_image(image: UInt8[np.ndarray, "h w c"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Stretches a photo to (height, width): INTER_AREA when both sides shrink, else INTER_LINEAR."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] and width < image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(height, width, image.shape[2])


def image_to_inputs(
    image: UInt8[np.ndarray, "h w 3"],
    size: tuple[int, int],
    channels: Channels = "rgb",
    dtype: Literal["float32", "uint8"] = "float32",
) -> Shaped[np.ndarray, "1 h2 w2 c"]:
    """What a network or an exported file eats.

    Args:
        image: RGB photo.
        size: (height, width) of the network.
        channels: `rgb`; or `rgba`, whose fourth channel, opaque alpha, changes nothing.
        dtype: float32 in [0, 1], or uint8 bytes (scale 1/255, zero point 0).

    Returns:
        (1, height, width, 3 or 4), NHWC, RGB order.
    """
    pixels = resize_image(image, size)
    if channels == "rgba":
        pixels = np.concatenate([pixels, np.full((*size, 1), 255, np.uint8)], axis=2)
    batch = np.ascontiguousarray(pixels[None])
    return batch if dtype == "uint8" else bytes_to_float(batch)


def bytes_to_float(pixels: UInt8[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Bytes 0..255 as float32 in [0, 1]."""
    # a float32 scalar, so that numpy neither widens nor rounds differently from one machine to the next
    return pixels.astype(np.float32) / np.float32(255)


def mask_to_target(
    mask: UInt8[np.ndarray, "h w"], size: tuple[int, int], is_soft: bool = False
) -> UInt8[np.ndarray, "h2 w2"]:
    """The training target of a truth mask, at the network's size: 0..255, soft where a pixel straddles the outline.

    Args:
        mask: truth, 0..255.
        size: (height, width) of the network.
        is_soft: True keeps the alpha between 0 and 255; False first cuts at 127, as the metrics do.
    """
    alpha = mask if is_soft else np.where(mask > MASK_THRESHOLD, np.uint8(255), np.uint8(0))
    return resize_image(alpha[..., None], size)[..., 0]


def outputs_to_probability(
    outputs: Shaped[np.ndarray, "1 h w 1"], scale: float | None = None, zero_point: int | None = None
) -> Float32[np.ndarray, "h w"]:
    """Raw output of a file → probability of person in [0, 1].

    Args:
        outputs: float32 probability, or its quantized form.
        scale: of a quantized output; None for a float one.
        zero_point: of a quantized output.

    Raises:
        ValueError: integer outputs without a scale.
    """
    if np.issubdtype(outputs.dtype, np.integer):
        if not scale:
            raise ValueError(f"{outputs.dtype} output without a quantization scale")
        values = (outputs.astype(np.float32) - np.float32(zero_point or 0)) * np.float32(scale)
    else:
        values = outputs.astype(np.float32)
    return values[0, :, :, 0]


def probability_to_bytes(probability: Float[np.ndarray, "*d"]) -> UInt8[np.ndarray, "*d"]:
    """Probability or alpha → the nearest of 0..255; what lies halfway between two goes to the lower one.

    So that one rule holds for a tie, everywhere: exactly 0.5 is background, as a probability (> 0.5 is person), as a
    byte (127; > 127 is person) and in a uint8 file (128 at scale 1/256). To the nearest even it would be 128, person.
    """
    return np.ceil(np.clip(probability, 0, 1) * 255 - 0.5).astype(np.uint8)


def probability_to_mask(probability: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "h2 w2"]:
    """Probability at the network's size → mask at the photo's (height, width): INTER_LINEAR, then > 0.5."""
    height, width = size
    return cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR) > PROBABILITY_THRESHOLD


def probability_to_alpha(
    probability: Float32[np.ndarray, "h w"], size: tuple[int, int]
) -> Float32[np.ndarray, "h2 w2"]:
    """Probability at the network's size → matte in [0, 1] at the photo's (height, width): the mask before its cut."""
    height, width = size
    return np.clip(cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def truth_to_mask(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Truth, 0..255 → mask: > 127 is person."""
    return mask > MASK_THRESHOLD
