"""What stands behind the person of a synthetic portrait: walls, rooms, streets, leaves, lights, and clutter."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from portraitseg.synthetic.paint import Colour, any_colour, box, fixed, mix, noise, oval, smooth, tint
from portraitseg.synthetic.person import HAIR_COLOURS, SKIN_TONES, along

Image = UInt8[np.ndarray, "h w 3"]


def draw_background(rng: Generator, size: tuple[int, int]) -> Image:
    """Returns a background, RGB uint8 (h, w, 3), of `size` = (height, width)."""
    kinds = list(_KINDS)
    image = _KINDS[kinds[int(rng.integers(len(kinds)))]](rng, size)
    if rng.random() < 0.5:
        _draw_clutter(image, rng)
    if rng.random() < 0.45:
        _draw_lookalikes(image, rng)
    if rng.random() < 0.5:  # a lens that focuses on the person
        sigma = max(size) * rng.uniform(0.003, 0.035)
        image = _blur(image, sigma)
    return image


def _blur(image: Image, sigma: float) -> Image:
    """Returns a Gaussian blur; wide ones are done on a shrunk copy, which looks the same and costs little."""
    h, w = image.shape[:2]
    shrink = max(1, int(sigma / 1.5))
    small = (max(1, w // shrink), max(1, h // shrink))
    if shrink == 1:
        return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.3))
    soft = cv2.GaussianBlur(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (0, 0), sigma / shrink)
    return cv2.resize(soft, (w, h), interpolation=cv2.INTER_LINEAR)


def _fill(image: Image, outline: np.ndarray, colour: Colour) -> None:
    """Fills an outline given in shares of width and height."""
    points = outline * (image.shape[1], image.shape[0])
    cv2.fillPoly(image, [fixed(points)], colour, cv2.LINE_AA, 4)


def _line(image: Image, points: list[tuple[float, float]], colour: Colour, width: float) -> None:
    """Draws a polyline given in shares of width and height; `width` is a share of the smaller side."""
    pixels = np.array(points) * (image.shape[1], image.shape[0])
    cv2.polylines(image, [fixed(pixels)], False, colour, max(1, round(width * min(image.shape[:2]))), cv2.LINE_AA, 4)


def _blend(size: tuple[int, int], share: np.ndarray, low: Colour, high: Colour) -> Image:
    """Returns low where share is 0 and high where it is 1; share float (rows, cols) of any size."""
    t = np.clip(share, 0, 1).astype(np.float32)[..., None]
    patch = np.array(low, np.float32) * (1 - t) + np.array(high, np.float32) * t
    return cv2.resize(patch.astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)


def _gradient(rng: Generator, size: tuple[int, int]) -> Image:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    angle = rng.uniform(0, 2 * np.pi)
    linear = 0.5 + 0.4 * (x * np.cos(angle) + y * np.sin(angle))
    radial = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)) / 1.5
    colour = any_colour(rng)
    other = tint(colour, rng.uniform(0.3, 1.5)) if rng.random() < 0.6 else any_colour(rng)
    mottle = rng.uniform(0, 0.25) * noise(rng, 8, 8, (48, 48))
    return _blend(size, (linear if rng.random() < 0.5 else radial) + mottle, colour, other)


def _tiles(rng: Generator, size: tuple[int, int]) -> Image:
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / min(h, w)
    turn = rng.choice([0.0, np.pi / 2, np.pi / 4, rng.uniform(0, np.pi)])
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    pitch = rng.uniform(4, 22)
    kind = rng.choice(["stripes", "bricks", "check", "waves"])
    if kind == "bricks":
        row = np.floor(v * pitch)
        share = (np.modf(v * pitch - row)[0] > 0.1) & (np.mod(u * pitch * 0.5 + 0.5 * np.mod(row, 2), 1) > 0.05)
    elif kind == "check":
        share = np.sin(np.pi * pitch * u) * np.sin(np.pi * pitch * v) > 0
    elif kind == "waves":
        share = 0.5 + 0.5 * np.sin(np.pi * pitch * (u + 0.05 * np.sin(9 * v)))
    else:
        share = np.sin(np.pi * pitch * u) > rng.uniform(-0.5, 0.7)
    colour = any_colour(rng)
    image = _blend(size, share, tint(colour, rng.uniform(0.5, 0.95)), colour)
    return _modulate(image, 1 + 0.25 * noise(rng, 3, 3, size))


def _modulate(image: Image, gain: np.ndarray) -> Image:
    """Returns the image with each pixel's brightness multiplied by gain, float (h, w)."""
    return cv2.multiply(image, cv2.merge([gain.astype(np.float32)] * 3), dtype=cv2.CV_8U)


def _leaves(rng: Generator, size: tuple[int, int]) -> Image:
    share = np.zeros((192, 192), np.float32)
    for cells, weight in ((5, 0.5), (18, 0.45), (60, 0.4), (130, 0.25)):
        share += weight * noise(rng, cells, cells, (192, 192))
    green = (rng.uniform(50, 130), rng.uniform(90, 170), rng.uniform(20, 80))
    light = mix(green, (240, 240, 190), rng.uniform(0.2, 0.8))
    image = _blend(size, 0.45 + 0.7 * share, tint(green, 0.25), light)
    for _ in range(int(rng.integers(0, 5))):
        x, lean = rng.random(), rng.uniform(-0.1, 0.1)
        _line(image, [(x, 1.0), (x + lean, 0.0)], tint((96, 72, 50), rng.uniform(0.4, 1)), rng.uniform(0.01, 0.06))
    return image


def _bokeh(rng: Generator, size: tuple[int, int]) -> Image:
    image = _blend(size, 0.5 + 0.6 * noise(rng, 4, 4, (32, 32)), tint(any_colour(rng), 0.2), tint(any_colour(rng), 0.5))
    aspect = size[1] / size[0]
    for _ in range(int(rng.integers(10, 40))):
        r, colour = rng.uniform(0.01, 0.07), mix(any_colour(rng, 1.0), (255, 236, 190), rng.uniform(0.2, 0.9))
        x, y = rng.random(2)
        layer = image.copy() if r > 0.04 else image  # the wide discs shine through
        _fill(layer, oval(x, y, r / aspect, r), colour)
        if layer is not image:
            cv2.addWeighted(layer, 0.5, image, 0.5, 0, dst=image)
    return image


def _street(rng: Generator, size: tuple[int, int]) -> Image:
    horizon = rng.uniform(0.35, 0.8)
    sky = mix((120, 170, 225), (240, 225, 205), rng.random()) if rng.random() < 0.8 else (30, 34, 52)
    image = _blend(size, np.linspace(0, 1, 48)[:, None] * np.ones((1, 8)), tint(sky, 0.85), tint(sky, 1.15))
    if rng.random() < 0.6:  # houses
        x = -0.05
        while x < 1:
            wide, top, colour = rng.uniform(0.08, 0.3), horizon - rng.uniform(0.1, 0.6), any_colour(rng, 0.5)
            _fill(image, np.array([(x, top), (x + wide, top), (x + wide, 1), (x, 1)]), colour)
            pane, step = tint(colour, rng.uniform(0.4, 1.6)), rng.uniform(0.04, 0.08)
            for wx in np.arange(x + 0.3 * step, x + wide - 0.6 * step, step):
                for wy in np.arange(top + 0.4 * step, horizon, 1.3 * step)[:10]:
                    _fill(image, box(wx + 0.25 * step, wy + 0.3 * step, 0.25 * step, 0.35 * step), pane)
            x += wide + rng.choice([0.0, rng.uniform(0, 0.1)])
    else:  # hills
        for k in range(3):
            ridge = horizon - 0.1 + 0.1 * k + 0.12 * noise(rng, 1, 5, (1, 24))[0]
            points = [*zip(np.linspace(-0.02, 1.02, 24), ridge, strict=True), (1.02, 1.02), (-0.02, 1.02)]
            _fill(image, np.array(points), mix((110, 140, 150), (70, 100, 50), k / 2))
    ground = mix((120, 118, 114), (96, 130, 70), rng.random())
    _fill(image, np.array([(0, horizon + 0.1), (1, horizon + 0.1), (1, 1), (0, 1)]), ground)
    return image


def _room(rng: Generator, size: tuple[int, int]) -> Image:
    wall = mix(any_colour(rng, 0.5), (225, 220, 210), rng.random())
    image = _modulate(_blend(size, np.zeros((2, 2)), wall, wall), 1 + 0.2 * noise(rng, 2, 3, size))
    if rng.random() < 0.5:  # the corner and the other wall
        x = rng.uniform(0.1, 0.9)
        _fill(image, np.array([(x, 0), (1, -0.05), (1, 1), (x, 1)]), tint(wall, rng.uniform(0.7, 0.92)))
    floor = rng.uniform(0.7, 1.1)
    _fill(image, np.array([(0, floor), (1, floor), (1, 1.2), (0, 1.2)]), tint((140, 104, 74), rng.uniform(0.4, 1.3)))
    parts = [_draw_shelf, _draw_window, _draw_picture, _draw_picture, _draw_lamp, _draw_sofa, _draw_plant, _draw_door]
    for k in rng.permutation(len(parts))[: int(rng.integers(2, 6))]:
        parts[k](image, rng)
    return image


def _draw_shelf(image: Image, rng: Generator) -> None:
    x, wide, wood = rng.uniform(-0.1, 0.6), rng.uniform(0.25, 0.6), tint((150, 110, 76), rng.uniform(0.3, 1.5))
    height = rng.uniform(0.13, 0.22)
    for y in np.arange(rng.uniform(0, 0.15), rng.uniform(0.5, 1.0), height):
        _fill(image, np.array([(x, y), (x + wide, y), (x + wide, y + height), (x, y + height)]), tint(wood, 0.5))
        bx = x + 0.01
        while bx < x + wide - 0.05:  # books, of which some lean
            thick, tall = rng.uniform(0.012, 0.05), height * rng.uniform(0.5, 0.9)
            lean = rng.choice([0.0, 0.0, 0.015])
            base = y + height
            _fill(
                image,
                np.array([(bx + lean, base - tall), (bx + thick + lean, base - tall), (bx + thick, base), (bx, base)]),
                any_colour(rng, 0.9),
            )
            bx += thick + rng.choice([0.002, 0.002, 0.05])
        _line(image, [(x, y + height), (x + wide, y + height)], wood, 0.02)


def _draw_window(image: Image, rng: Generator) -> None:
    x, y, rx, ry = rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.4), rng.uniform(0.12, 0.25), rng.uniform(0.15, 0.35)
    _fill(image, box(x, y, rx + 0.02, ry + 0.02), tint((235, 232, 226), rng.uniform(0.5, 1)))
    _fill(image, box(x, y, rx, ry), mix((205, 226, 246), (255, 250, 236), rng.random()))
    _fill(
        image,
        np.array(
            [(x - rx, y + 0.4 * ry), (x, y + 0.2 * ry), (x + rx, y + 0.5 * ry), (x + rx, y + ry), (x - rx, y + ry)]
        ),
        (126, 152, 112),
    )
    for points in ([(x, y - ry), (x, y + ry)], [(x - rx, y), (x + rx, y)]):
        _line(image, points, (225, 222, 216), 0.02)
    if rng.random() < 0.5:
        cloth = any_colour(rng)
        for side in (-1, 1):
            _fill(image, box(x + side * rx, y, 0.4 * rx, 1.25 * ry), cloth)
            _line(image, [(x + side * rx, y - 1.2 * ry), (x + side * rx, y + 1.2 * ry)], tint(cloth, 0.7), 0.01)


def _draw_picture(image: Image, rng: Generator) -> None:
    x, y, rx, ry = rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.06, 0.16), rng.uniform(0.06, 0.18)
    _fill(image, box(x, y, rx, ry), tint(any_colour(rng), 0.5))
    _fill(image, box(x, y, 0.85 * rx, 0.85 * ry), any_colour(rng))
    for _ in range(3):
        _fill(
            image,
            oval(x + rx * rng.uniform(-0.4, 0.4), y + ry * rng.uniform(-0.4, 0.4), 0.35 * rx, 0.35 * ry, 12),
            any_colour(rng),
        )


def _draw_lamp(image: Image, rng: Generator) -> None:
    x, y, r = rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.12)
    _line(image, [(x, y), (x, 1.0)] if rng.random() < 0.5 else [(x, y), (x, 0.0)], (70, 64, 58), 0.012)
    _fill(
        image, np.array([(x - 0.5 * r, y - r), (x + 0.5 * r, y - r), (x + r, y + r), (x - r, y + r)]), (252, 232, 184)
    )


def _draw_sofa(image: Image, rng: Generator) -> None:
    x, top, rx, colour = rng.random(), rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.5), any_colour(rng)
    _fill(image, smooth(box(x, top + 0.25, rx, 0.25)), colour)
    for side in (-1, 1):
        _fill(image, smooth(box(x + side * rx, top + 0.35, 0.08, 0.2)), tint(colour, 0.8))
        _fill(image, smooth(box(x + side * 0.4 * rx, top + 0.2, 0.35 * rx, 0.12)), tint(colour, 1.15))


def _draw_plant(image: Image, rng: Generator) -> None:
    x, y, r = rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.12, 0.35)
    _fill(
        image,
        np.array([(x - 0.07, y), (x + 0.07, y), (x + 0.05, y + 0.16), (x - 0.05, y + 0.16)]),
        tint((172, 104, 72), rng.uniform(0.5, 1.2)),
    )
    for angle in rng.uniform(-1.3, 1.3, 16):
        tip = np.array([x + r * np.sin(angle), y - r * np.cos(angle) * rng.uniform(0.5, 1)])
        middle = 0.5 * (tip + np.array((x, y)))
        bulge = 0.12 * r * np.array([np.cos(angle), np.sin(angle)])
        _fill(
            image,
            smooth(np.array([(x, y), middle + bulge, tip, middle - bulge]), 1),
            tint((70, 130, 60), rng.uniform(0.4, 1.3)),
        )


def _draw_door(image: Image, rng: Generator) -> None:
    x, rx, colour = rng.random(), rng.uniform(0.12, 0.2), mix(any_colour(rng), (230, 226, 220), 0.5)
    _fill(image, box(x, 0.65, rx, 0.55), colour)
    for y in (0.3, 0.7):
        _fill(image, box(x, y, 0.6 * rx, 0.14), tint(colour, 0.88))
    _fill(image, oval(x + 0.8 * rx, 0.55, 0.012, 0.012, 8), (190, 160, 90))


def _draw_clutter(image: Image, rng: Generator) -> None:
    """Draws discs, boxes, blobs and bars of any colour."""
    for _ in range(int(rng.integers(2, 9))):
        x, y, rx, ry = rng.random(), rng.random(), rng.uniform(0.02, 0.16), rng.uniform(0.02, 0.2)
        colour, kind = any_colour(rng), rng.integers(4)
        if kind == 0:
            _fill(image, oval(x, y, rx, ry), colour)
        elif kind == 1:
            _fill(image, box(x, y, rx, ry), colour)
        elif kind == 2:
            _fill(image, smooth(np.array([x, y]) + rng.uniform(-1, 1, (7, 2)) * (rx, ry)), colour)
        else:
            _line(image, [(x, y), tuple(rng.random(2))], colour, rng.uniform(0.005, 0.06))


def _draw_lookalikes(image: Image, rng: Generator) -> None:
    """Draws faceless things in the colours of skin and hair, so that colour alone does not find the person."""
    for _ in range(int(rng.integers(1, 6))):
        tones = SKIN_TONES if rng.random() < 0.75 else HAIR_COLOURS
        colour = tint(along(tones, rng.random()), rng.uniform(0.7, 1.05))
        x, y, r = rng.random(), rng.random(), rng.uniform(0.03, 0.2)
        shape = (
            oval(x, y, r, r * rng.uniform(0.6, 1.5)) if rng.random() < 0.6 else box(x, y, r, r * rng.uniform(0.3, 2))
        )
        _fill(image, shape, colour)


_KINDS = {
    "gradient": _gradient,
    "tiles": _tiles,
    "leaves": _leaves,
    "bokeh": _bokeh,
    "street": _street,
    "room": _room,
    "another_room": _room,  # twice as likely as the others: where selfies and calls are made
}
