"""The band around a person's outline that a boundary head learns (numpy and OpenCV only: workers import this)."""

import math

import cv2
import numpy as np
from jaxtyping import UInt8

from portraitseg import contract

#: Thicknesses of the band as shares of the person's size, the square root of the person's area.
THICKNESSES = (1 / 64, 1 / 32, 1 / 16)


def edge_band(target: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Canny's edges of the mask, dilated to several thicknesses and averaged: 255 at the outline, falling off in steps.

    As BANet's target (Chen et al. 2019, arXiv:1901.03814), which is Canny's edges. The thicknesses are ours: each of
    `THICKNESSES` times the square root of the person's area in px, to the nearest odd number, 1 at least; a portrait
    that fills half of 256x256 has 3, 5 and 11 px. Cross-entropy is linear in its target, so learning the average is
    learning each band with the same weight. Where a photo cuts the person off is no outline.

    Args:
        target: 0..255; > 127 is person.

    Returns:
        0..255; nothing but 0 without an outline.
    """
    person = contract.truth_to_mask(target)
    edge = cv2.Canny(np.where(person, np.uint8(255), np.uint8(0)), 100, 200)
    size = math.sqrt(np.count_nonzero(person))
    bands = [cv2.dilate(edge, _disc(share * size)) for share in THICKNESSES]
    # in whole numbers: a mean in float takes ten times all of the rest
    return (np.stack(bands).sum(axis=0, dtype=np.uint16) // len(bands)).astype(np.uint8)


def _disc(diameter: float) -> UInt8[np.ndarray, "d d"]:
    side = 2 * round((max(diameter, 1) - 1) / 2) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)
