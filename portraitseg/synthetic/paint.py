"""Brushes of the synthetic portraits: antialiased shapes on a canvas with premultiplied alpha.

The canvas is uint8 (h, w, 4): RGB already multiplied by alpha, then alpha. Every opaque stroke with antialiased edges
blends its colour and the alpha value 255 by the same weight, which is the "over" operator of Porter and Duff (1984):
the alpha channel is exact by construction, and stays exact when the canvas is shrunk.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator

Canvas = UInt8[np.ndarray, "h w 4"]
Patch = UInt8[np.ndarray, "rows cols 3"]
Outline = Float[np.ndarray, "n 2"]
Number = float | int  # spelled out, because beartype does not take an int for a float
Colour = tuple[Number, Number, Number]  # RGB, 0-255
Point = Sequence[Number]  # x, y

_SHIFT = 4  # OpenCV's fixed point: sixteenths of a pixel
_FAR = 20_000.0  # coordinates are clipped here: OpenCV's fixed point overflows on absurd close-ups


@dataclass(frozen=True)
class Frame:
    """A place on the canvas: maps local coordinates (unit: half a head's height, y down) to pixels.

    Attributes:
        x: Column of the local origin, pixels.
        y: Row of the local origin, pixels.
        unit: Pixels per local unit.
        angle: Clockwise turn, radians.
    """

    x: float
    y: float
    unit: float
    angle: float = 0.0

    def at(self, points: Sequence[Point] | Outline) -> Outline:
        """Returns local points (n, 2) in pixels (n, 2)."""
        p = np.asarray(points, dtype=np.float64)
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned = p @ np.array([[c, s], [-s, c]])
        return turned * self.unit + (self.x, self.y)

    def inside(self, x: Number, y: Number, scale: Number = 1.0, turn: Number = 0.0) -> Frame:
        """Returns a frame whose origin is the local point (x, y) of this one."""
        px, py = self.at([(x, y)])[0]
        return Frame(float(px), float(py), self.unit * scale, self.angle + turn)


def fixed(points: Outline) -> np.ndarray:
    """Returns pixel points as OpenCV's fixed-point int32 (n, 2)."""
    return np.round(np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)).astype(np.int32)


def fill(canvas: np.ndarray, outline: Outline, colour: Colour) -> None:
    """Fills a closed outline (pixels) with one opaque colour, in place."""
    cv2.fillPoly(canvas, [fixed(outline)], (*colour, 255), cv2.LINE_AA, _SHIFT)


def stroke(
    canvas: np.ndarray, lines: Sequence[Outline], colour: Colour, width_px: Number, closed: bool = False
) -> None:
    """Draws open or closed polylines (pixels) with one opaque colour, in place."""
    thickness = max(1, round(min(width_px, 255)))
    cv2.polylines(canvas, [fixed(p) for p in lines], closed, (*colour, 255), thickness, cv2.LINE_AA, _SHIFT)


def paint(
    canvas: Canvas,
    outline: Outline,
    patch: Patch,
    fringe_px: Number = 0.0,
    grain: np.ndarray | None = None,
    is_atop: bool = False,
) -> None:
    """Fills an outline with a picture stretched over its bounding box, in place.

    Args:
        canvas: Premultiplied canvas.
        outline: Closed outline, pixels.
        patch: Texture and shading.
        fringe_px: Width over which the edge fades out; 0 is a sharp edge.
        grain: Float (rows, cols) around 0; breaks the fading edge up into tufts. Only used with a fringe.
        is_atop: Only recolours what is already there: a shadow on the neck must not become person beside it.
    """
    height, width = canvas.shape[:2]
    low, high = outline.min(axis=0), outline.max(axis=0)
    margin = 2 + int(2 * fringe_px)
    x0, y0 = (max(0, int(v) - margin) for v in low)
    x1, y1 = min(width, int(high[0]) + margin + 1), min(height, int(high[1]) + margin + 1)
    if x0 >= x1 or y0 >= y1:
        return
    cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(cover, [fixed(outline - (x0, y0))], 255, cv2.LINE_AA, _SHIFT)
    weight = cover.astype(np.float32) * np.float32(1 / 255)
    span = np.maximum(high - low, 1.0)
    if fringe_px >= 0.5:
        weight = np.asarray(cv2.GaussianBlur(weight, (0, 0), fringe_px), np.float32)
        if grain is not None:
            weight += _stretch(grain, span, low - (x0, y0), weight.shape) * (4 * weight * (1 - weight))
        weight = np.clip(1.8 * weight - 0.4, 0, 1)
    colour = np.full((*weight.shape, 4), 255, np.uint8)
    colour[..., :3] = _stretch(patch, span, low - (x0, y0), weight.shape)
    below = np.ascontiguousarray(canvas[y0:y1, x0:x1])
    if is_atop:
        colour = cv2.multiply(colour, cv2.merge([below[..., 3]] * 4), scale=1 / 255)
    canvas[y0:y1, x0:x1] = cv2.blendLinear(colour, below, weight, 1 - weight)


def _stretch(patch: np.ndarray, span: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the patch stretched over a box of `span` pixels at `offset`, cropped to `shape`."""
    rows, cols = patch.shape[:2]
    sx, sy = cols / span[0], rows / span[1]
    inverse = np.array([[sx, 0, (0.5 - offset[0]) * sx - 0.5], [0, sy, (0.5 - offset[1]) * sy - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(patch, inverse, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def noise(rng: Generator, rows: int, cols: int, shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Returns smooth noise of about [-1, 1] with rows x cols random bumps: the draws do not depend on `shape`."""
    grid = rng.uniform(-1, 1, (rows, cols)).astype(np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def lit(colour: Colour, light: tuple[float, float], depth: float = 0.3, n: int = 32) -> Patch:
    """Returns the shading of a rounded thing of one colour.

    Args:
        colour: RGB, 0-255.
        light: Direction towards the light on the picture, x right and y down, length up to 1.
        depth: How strong light and shade are; 0 is flat.
        n: Rows and columns of the patch.
    """
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    shade = depth * (light[0] * x + light[1] * y) - 0.5 * depth * (x * x + 0.5 * y * y)
    gain = 1 + shade[..., None] * np.array([0.85, 1.0, 1.1], np.float32)  # shade on skin and cloth turns warm
    return np.clip(np.array(colour, np.float32) * gain, 0, 255).astype(np.uint8)


def tint(colour: Colour, gain: float) -> Colour:
    """Returns the colour made darker (gain < 1) or lighter (gain > 1), within 0-255."""
    r, g, b = (float(np.clip(v * gain, 0, 255)) for v in colour)
    return r, g, b


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Returns a + share * (b - a)."""
    r, g, bl = (float(p + share * (q - p)) for p, q in zip(a, b, strict=True))
    return r, g, bl


def any_colour(rng: Generator, saturation: float = 0.8) -> Colour:
    """Returns a random RGB colour, 0-255: dull ones are as likely as vivid ones."""
    r, g, b = colorsys.hsv_to_rgb(rng.random(), saturation * rng.random() ** 1.3, 0.08 + 0.9 * rng.random())
    return 255 * r, 255 * g, 255 * b


def smooth(points: Sequence[Point] | Outline, rounds: int = 2) -> Float[np.ndarray, "m 2"]:
    """Returns a closed outline with its corners rounded off (Chaikin's corner cutting)."""
    p = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        q = np.roll(p, -1, axis=0)
        p = np.stack([0.75 * p + 0.25 * q, 0.25 * p + 0.75 * q], axis=1).reshape(-1, 2)
    return p


def oval(x: Number, y: Number, rx: Number, ry: Number, n: int = 24) -> Outline:
    """Returns an ellipse's outline (n, 2)."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def box(x: Number, y: Number, rx: Number, ry: Number) -> Outline:
    """Returns a rectangle's outline (4, 2) around (x, y)."""
    return np.array([(x - rx, y - ry), (x + rx, y - ry), (x + rx, y + ry), (x - rx, y + ry)])


def limb(p: Point, q: Point, rp: Number, rq: Number) -> Outline:
    """Returns the outline (20, 2) of a limb from p to q with round ends of radius rp and rq."""
    axis = np.arctan2(q[1] - p[1], q[0] - p[0])
    t = np.linspace(-np.pi / 2, np.pi / 2, 10)
    end = np.stack([q[0] + rq * np.cos(axis + t), q[1] + rq * np.sin(axis + t)], axis=1)
    start = np.stack([p[0] - rp * np.cos(axis + t), p[1] - rp * np.sin(axis + t)], axis=1)
    return np.concatenate([end, start])


def mirrored(points: Sequence[Point] | Outline, side: Number) -> Outline:
    """Returns the points with x multiplied by `side` (1 or -1)."""
    return np.asarray(points, dtype=np.float64) * (side, 1.0)
