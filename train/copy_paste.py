"""A person of one photo before another: photos of training that nobody took (numpy and OpenCV only).

Simple copy-paste (Ghiasi et al. 2021, arXiv:2012.07177) with whole persons: before a photo of nobody it is background
replacement, before another person's it makes a group. It breaks the tie between a person and the place of the photo,
which a network with few photos learns by heart.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]

#: Sigma by which the cut-out's outline is softened, px: a hard mask's steps would tell where something was pasted.
SOFTNESS_PX = 0.7


def paste(front: Image, mask: Mask, back: Image, back_mask: Mask) -> tuple[Image, Mask]:
    """Puts the person of `front` before `back`.

    Args:
        front: RGB; what lies outside `mask` does not show.
        mask: 0..255, person of `front`.
        back: of the same shape.
        back_mask: 0..255, person of `back`.

    Returns:
        α·front + (1 - α)·back with α the softened mask, and the mask of both: m + (1 - m)·b. New arrays, uint8.
    """
    alpha = cv2.GaussianBlur(mask, (0, 0), SOFTNESS_PX).astype(np.float32)[..., None] / 255
    image = alpha * front + (1 - alpha) * back
    both = mask + (255 - mask.astype(np.float32)) * (back_mask / np.float32(255))
    return np.rint(image).astype(np.uint8), np.rint(both).astype(np.uint8)


def paste_ignored(mask: Mask, ignore: Mask | None, back_ignore: Mask | None) -> Mask | None:
    """The pixels of a pasted photo that are not known, above 0.

    What is unknown of `front` is not pasted, unless the soft outline takes it along; what is unknown of `back` stays so
    where nobody stands before it.

    Args:
        mask, ignore: of `front`, as `paste` takes it; None: all is known.
        back_ignore: of `back`.
    """
    if ignore is None and back_ignore is None:
        return None
    is_unknown = np.zeros(mask.shape, bool)
    if ignore is not None:
        is_unknown |= (cv2.GaussianBlur(mask, (0, 0), SOFTNESS_PX) > 0) & (ignore > 0)
    if back_ignore is not None:
        is_unknown |= (mask < 255) & (back_ignore > 0)
    return np.where(is_unknown, np.uint8(255), np.uint8(0))
