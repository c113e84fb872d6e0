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
