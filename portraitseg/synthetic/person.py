"""The person of a synthetic portrait: a look drawn at random, then clothes, neck, head and face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from portraitseg.synthetic.paint import (
    Canvas,
    Colour,
    Frame,
    Outline,
    Patch,
    any_colour,
    fill,
    lit,
    mirrored,
    mix,
    noise,
    oval,
    paint,
    smooth,
    stroke,
    tint,
)

# Skin from the lightest to the darkest, in about the steps of the Monk Skin Tone scale (skintone.google).
SKIN_TONES: list[Colour] = [
    (250, 228, 212),
    (243, 208, 184),
    (228, 184, 150),
    (208, 158, 120),
    (178, 124, 86),
    (146, 96, 62),
    (108, 70, 46),
    (74, 48, 34),
    (52, 36, 30),
]
HAIR_COLOURS: list[Colour] = [
    (20, 17, 17),
    (36, 26, 22),
    (62, 42, 30),
    (92, 62, 40),
    (120, 58, 32),
    (160, 112, 64),
    (206, 170, 112),
    (150, 148, 146),
    (214, 212, 208),
]
COLLARS = ("crew", "crew", "v", "shirt", "shirt", "jacket", "jacket", "turtleneck", "hood", "straps")


@dataclass(frozen=True)
class Look:
    """What makes one person: lengths in half heads, colours 0-255, `light` as in `lit`."""

    skin: Colour
    hair: Colour
    cloth: Colour
    light: tuple[float, float]
    depth: float
    head_width: float
    jaw: float
    yaw: float
    shoulder: float
    slope: float
    neck: float
    collar: str
    is_bearded: bool

    @property
    def shade(self) -> Colour:
        """Skin in shadow."""
        r, g, b = self.skin
        return 0.72 * r, 0.64 * g, 0.60 * b


def along(scale: list[Colour], t: float) -> Colour:
    """Returns the colour at t in [0, 1] along a list of colours."""
    i = min(int(t * (len(scale) - 1)), len(scale) - 2)
    return mix(scale[i], scale[i + 1], t * (len(scale) - 1) - i)


def draw_look(rng: Generator, light: tuple[float, float]) -> Look:
    """Returns a person's look, drawn at random."""
    dyed = rng.random() < 0.06
    skin = along(SKIN_TONES, rng.random())
    cast = rng.uniform(-7, 7, 3)
    return Look(
        skin=(skin[0] + cast[0], skin[1] + 0.5 * cast[1], skin[2] + cast[2]),
        hair=any_colour(rng, 1.0) if dyed else tint(along(HAIR_COLOURS, rng.random() ** 1.4), rng.uniform(0.8, 1.15)),
        cloth=any_colour(rng),
        light=light,
        depth=rng.uniform(0.12, 0.4),
        head_width=rng.uniform(0.68, 0.84),
        jaw=rng.uniform(0.12, 0.38),
        yaw=float(np.clip(rng.normal(0, 0.4), -0.8, 0.8)),
        shoulder=rng.uniform(1.45, 2.3),
        slope=rng.uniform(0.0, 0.35),
        neck=rng.uniform(0.36, 0.52),
        collar=str(rng.choice(COLLARS)),
        is_bearded=bool(rng.random() < 0.22),
    )


def head_outline(look: Look, grow: float = 1.0) -> Outline:
    """Returns the head's outline (32, 2) in local units: crown at y = -1, chin at y = 1."""
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x, y = np.sin(t), -np.cos(t)
    down = np.clip(y, 0, 1)
    width = look.head_width * (1 - look.jaw * down**1.5) * (1 + 0.10 * np.clip(-y, 0, 1))
    chin = 0.10 * look.yaw * look.head_width * down  # the chin points where the face looks
    return np.stack([x * width * grow + chin, y * grow], axis=1)


def _step(x: np.ndarray) -> np.ndarray:
    """Returns 0 for x < 0 and 1 for x > 0 with a short slope between: an enlarged hard edge would show steps."""
    return np.clip(0.5 + 3 * x, 0, 1)


def cloth_patch(rng: Generator, look: Look, n: int = 128) -> Patch:
    """Returns cloth: a plain, striped, checked, dotted, printed or mottled pattern with folds and light."""
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    turn, pitch = rng.uniform(0, np.pi) if rng.random() < 0.4 else rng.choice([0, np.pi / 2]), rng.uniform(8, 34)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kind = rng.choice(["plain", "plain", "stripes", "check", "dots", "print", "mottled", "fade"])
    share = {
        "plain": lambda: np.zeros_like(u),
        "stripes": lambda: _step(np.sin(pitch * u) - rng.uniform(-0.6, 0.6)),
        "check": lambda: 0.5 * _step(np.sin(pitch * u)) + 0.5 * _step(np.sin(pitch * v)),
        "dots": lambda: _step(np.sin(pitch * u) * np.sin(pitch * v) - 0.55),
        "print": lambda: _step(0.3 - np.abs(x)) * _step(0.16 - np.abs(y + 0.5)) * _step(noise(rng, 9, 9, (n, n))),
        "mottled": lambda: 0.5 + 0.5 * noise(rng, 24, 24, (n, n)),
        "fade": lambda: 0.5 + 0.5 * v,
    }[str(kind)]()
    other = any_colour(rng)
    base = np.array(look.cloth, np.float32) + np.asarray(share, np.float32)[..., None] * np.subtract(
        other, look.cloth
    ).astype(np.float32)
    folds = 1 + 0.16 * noise(rng, 5, 12, (n, n)) * look.depth / 0.3
    light = folds + look.depth * (look.light[0] * x + 0.4 * look.light[1] * y)
    return np.clip(base * light[..., None], 0, 255).astype(np.uint8)


def torso_outline(look: Look, bottom: float) -> Outline:
    """Returns shoulders and trunk (n, 2) in body units, from the neck down to y = bottom."""
    s, slope = look.shoulder, look.slope
    half = np.array(
        [
            (look.neck, 1.32),
            (look.neck + 0.18, 1.52),
            (0.7 * s, 1.68 + 0.5 * slope),
            (s, 1.98 + slope),
            (s + 0.02, 2.5 + slope),
            (0.86 * s, 3.6),
            (0.80 * s, 5.0),
            (0.92 * s, max(9.0, bottom)),
        ]
    )
    half[:, 1] = np.minimum(half[:, 1], bottom)
    return smooth(np.concatenate([half, mirrored(half, -1.0)[::-1]]))


def draw_torso(canvas: Canvas, body: Frame, look: Look, patch: Patch, rng: Generator) -> None:
    """Draws shoulders, trunk, neckline and collar: what lies behind the neck and what lies before it."""
    s = look.shoulder
    bottom = max(4.0, (canvas.shape[0] - body.y) / body.unit + 2)  # out of the frame, whose edge then cuts the body
    if look.collar == "hood":
        fill(
            canvas,
            body.at(smooth([(-0.95, 1.9), (-0.8, 1.0), (0, 0.85), (0.8, 1.0), (0.95, 1.9)])),
            tint(look.cloth, 0.7),
        )
    if look.collar == "straps":
        paint(canvas, body.at(torso_outline(look, bottom)), lit(look.skin, look.light, look.depth))
        left = [(-0.86 * s, 2.75), (-0.62 * s, 2.5), (-0.56 * s, 1.62), (-0.42 * s, 1.60), (-0.38 * s, 2.35)]
        top = smooth([*left, *[(-x, y) for x, y in left[::-1]], (0.9 * s, bottom), (-0.9 * s, bottom)])
        paint(canvas, body.at(top), patch)
    else:
        paint(canvas, body.at(torso_outline(look, bottom)), patch)
    if rng.random() < 0.7:  # trousers or a skirt, seen on people who stand far away
        half = np.array([(0.81 * s, 5.2), (0.92 * s, 9.0), (0.92 * s, max(9.5, bottom))])  # between the arms
        waist = body.at(np.concatenate([half, mirrored(half, -1.0)[::-1]]))
        paint(canvas, waist, lit(any_colour(rng), look.light, look.depth), 1.0, is_atop=True)
    _draw_neck(canvas, body, look)
    _COLLAR_PARTS[look.collar](canvas, body, look, rng)


def _draw_neck(canvas: Canvas, body: Frame, look: Look) -> None:
    n = look.neck
    opening = {"v": 2.45, "shirt": 1.85, "jacket": 1.7, "crew": 1.72, "straps": 1.75}.get(look.collar, 1.62)
    neck = [
        (-n, 0.3),
        (n, 0.3),
        (0.95 * n, 1.2),
        (1.25 * n + 0.04, 1.5),
        (0, opening),
        (-1.25 * n - 0.04, 1.5),
        (-0.95 * n, 1.2),
    ]
    paint(canvas, body.at(smooth(neck)), lit(tint(look.skin, 0.88), look.light, look.depth))
    paint(
        canvas,
        body.at(oval(0.25 * look.light[0] * -n, 0.92, 0.98 * n, 0.34)),
        lit(look.shade, look.light, 0.15),
        0.12 * body.unit,
        is_atop=True,
    )
    if look.collar in ("v", "straps"):
        for side in (-1.0, 1.0):
            bone = body.at(mirrored([(0.12, 1.72), (0.35, 1.66), (0.8 * n + 0.25, 1.62)], side))
            stroke(canvas, [bone], look.shade, 0.025 * body.unit)


def _draw_turtleneck(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    n = look.neck + 0.05
    roll = smooth([(-n, 1.0), (0, 1.08), (n, 1.0), (n + 0.12, 1.55), (0, 1.78), (-n - 0.12, 1.55)])
    paint(canvas, body.at(roll), lit(tint(look.cloth, 0.95), look.light, look.depth))


def _draw_crew(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    t = np.linspace(0.05, np.pi - 0.05, 14)
    ring = np.stack([(1.15 * look.neck + 0.06) * np.cos(t), 1.48 + 0.2 * np.sin(t)], axis=1)
    stroke(canvas, [body.at(ring)], tint(look.cloth, rng.uniform(0.6, 1.2)), 0.09 * body.unit)


def _draw_hood(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    for side in (-1.0, 1.0):
        flap = smooth(mirrored([(0.95, 1.3), (0.45, 1.35), (0.05, 1.85), (0.3, 2.05), (0.9, 1.75)], side))
        paint(canvas, body.at(flap), lit(tint(look.cloth, 0.9), look.light, look.depth))
        cord = body.at(mirrored([(0.22, 1.95), (0.26, 2.3), (0.24, rng.uniform(2.5, 3.1))], side))
        stroke(canvas, [cord], (225, 222, 215), 0.05 * body.unit)


def _draw_shirt(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    edge = tint(look.cloth, 0.6)
    stroke(canvas, [body.at([(0, 1.85), (0.02, 5), (0, 18)])], edge, 0.03 * body.unit)
    for y in np.arange(2.2, 9, 0.6):
        fill(canvas, body.at(oval(0.06, y, 0.035, 0.035, 8)), tint(look.cloth, 0.4))
    if rng.random() < 0.3:
        _draw_tie(canvas, body, look, rng)
    for side in (-1.0, 1.0):
        flap = mirrored([(look.neck - 0.02, 1.22), (look.neck + 0.2, 1.5), (0.42, 2.02), (0.0, 1.74)], side)
        paint(canvas, body.at(flap), lit(tint(look.cloth, 1.08), look.light, look.depth))
        stroke(canvas, [body.at(flap)], edge, 0.02 * body.unit, closed=True)


def _draw_tie(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    colour = any_colour(rng, 1.0)
    fill(canvas, body.at([(-0.09, 2.0), (0.09, 2.0), (0.19, 4.2), (0, 4.5), (-0.19, 4.2)]), colour)
    fill(canvas, body.at([(-0.14, 1.74), (0.14, 1.74), (0.08, 2.03), (-0.08, 2.03)]), tint(colour, 0.8))


def _draw_jacket(canvas: Canvas, body: Frame, look: Look, rng: Generator) -> None:
    inner = (236, 236, 232) if rng.random() < 0.6 else any_colour(rng)
    deep, n = rng.uniform(3.0, 5.0), look.neck
    front = [(-n - 0.1, 1.45), (0, 1.78), (n + 0.1, 1.45), (0.1, deep), (-0.1, deep)]
    paint(canvas, body.at(front), lit(inner, look.light, look.depth))
    if rng.random() < 0.4:
        _draw_tie(canvas, body, look, rng)
    for side in (-1.0, 1.0):
        lapel = mirrored([(n + 0.02, 1.3), (n + 0.32, 1.5), (0.95, 2.3), (0.72, 2.42), (0.8, 2.6), (0.05, deep)], side)
        paint(canvas, body.at(lapel), lit(tint(look.cloth, 0.85), look.light, look.depth))
        stroke(canvas, [body.at(lapel)], tint(look.cloth, 0.5), 0.02 * body.unit, closed=True)


_COLLAR_PARTS = {
    "crew": _draw_crew,
    "v": lambda canvas, body, look, rng: None,
    "straps": lambda canvas, body, look, rng: None,
    "shirt": _draw_shirt,
    "jacket": _draw_jacket,
    "turtleneck": _draw_turtleneck,
    "hood": _draw_hood,
}


def draw_head(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    """Draws ears, head and face."""
    for side in (-1.0, 1.0):
        if side * look.yaw > -0.35:  # the far ear hides behind a turned head
            ear_x = side * look.head_width * (0.98 - 0.1 * look.yaw * side)
            fill(canvas, head.at(oval(ear_x, 0.02, 0.12, 0.2)), tint(look.skin, 0.86))
            fill(canvas, head.at(oval(ear_x, 0.03, 0.06, 0.12)), look.shade)
    patch = lit(look.skin, look.light, look.depth).astype(np.float32)
    patch *= 1 + 0.03 * noise(rng, 6, 6, (32, 32))[..., None]
    for cx in (-0.5, 0.5):  # cheeks
        y, x = np.mgrid[-1:1:32j, -1:1:32j]
        blush = np.exp(-((x - cx - 0.3 * look.yaw) ** 2 + (y - 0.25) ** 2) / 0.06)[..., None]
        patch += blush * rng.uniform(0, 0.09) * look.skin[0] * np.array([0.6, -0.5, -0.35])
    paint(canvas, head.at(head_outline(look)), np.clip(patch, 0, 255).astype(np.uint8))
    _draw_eyes(canvas, head, look, rng)
    _draw_nose(canvas, head, look, rng)
    _draw_mouth(canvas, head, look, rng)


def face_x(look: Look, x: float) -> float:
    """Returns where a feature at x in [-1, 1] of the face's half width lies on a head turned by yaw."""
    angle = np.arcsin(np.clip(x, -1, 1)) + 0.75 * look.yaw
    return float(look.head_width * np.sin(np.clip(angle, -1.5, 1.5)))


def _draw_eyes(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    gap, y = rng.uniform(0.40, 0.5), rng.uniform(-0.12, 0.0)
    tall, brow = (0.015 if rng.random() < 0.08 else rng.uniform(0.05, 0.095)), rng.uniform(0.17, 0.25)
    iris = tint(along([(40, 24, 16), (92, 58, 34), (96, 120, 84), (96, 132, 170)], rng.random() ** 2), 1.0)
    gaze, arch, thick = rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.09), rng.uniform(0.035, 0.085)
    hair = tint(mix(look.hair, look.shade, 0.15), 0.8)
    for side in (-1.0, 1.0):
        x, edge = face_x(look, side * gap), face_x(look, side * (gap + 0.2)) - face_x(look, side * (gap - 0.2))
        rx = 0.5 * abs(edge) + 0.02
        paint(
            canvas,
            head.at(oval(x, y - 0.02, 1.4 * rx, 0.16)),
            lit(mix(look.skin, look.shade, 0.45), (0.0, 0.0), 0.0, 4),
            0.05 * head.unit,
            is_atop=True,
        )
        fill(canvas, head.at(oval(x, y, rx, tall, 16)), (232, 228, 224))
        ball = min(0.085, tall)
        fill(canvas, head.at(oval(x + gaze, y, 0.08, ball, 14)), iris)
        fill(canvas, head.at(oval(x + gaze, y, 0.038, min(0.04, ball), 10)), (12, 10, 10))
        fill(canvas, head.at(oval(x + gaze + 0.025, y - 0.03, 0.016, 0.016, 6)), (250, 250, 250))
        lid = [(x - rx, y + 0.01), (x - 0.5 * rx, y - tall), (x + 0.4 * rx, y - tall), (x + rx, y + 0.01)]
        stroke(canvas, [head.at(lid)], tint(look.shade, 0.4), 0.028 * head.unit)
        line = [(x - 1.35 * rx, y - brow), (x, y - brow - arch), (x + 1.35 * rx, y - brow)]
        stroke(canvas, [head.at(line)], hair, thick * head.unit)


def _draw_nose(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    low, wide = rng.uniform(0.28, 0.40), rng.uniform(0.10, 0.18)
    top, tip = face_x(look, 0.0), face_x(look, 0.0) + 0.12 * look.yaw
    dark = mix(look.skin, look.shade, 0.55)
    away = -1.0 if look.light[0] > 0 else 1.0
    ridge = [(top, -0.1), (top + 0.05 * away, -0.1), (tip + wide * away, low), (tip, low + 0.05)]
    paint(canvas, head.at(smooth(ridge)), lit(dark, (0.0, 0.0), 0.0, 4), 0.025 * head.unit, is_atop=True)
    fill(canvas, head.at(oval(tip, low - 0.03, 0.7 * wide, 0.075)), tint(look.skin, 1.04))
    for side in (-1.0, 1.0):
        fill(canvas, head.at(oval(tip + side * 0.55 * wide, low + 0.04, 0.045, 0.022, 10)), tint(look.shade, 0.55))


def _draw_mouth(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    x, y, wide = face_x(look, 0.05 * look.yaw), rng.uniform(0.56, 0.66), rng.uniform(0.2, 0.32)
    smile, full = rng.uniform(-0.03, 0.11), rng.uniform(0.03, 0.075)
    lips = mix(tint(look.skin, 0.75), (168, 44, 58), rng.uniform(0.1, 0.7) if rng.random() < 0.6 else 0.15)
    upper = [
        (x - wide, y - smile),
        (x - 0.3 * wide, y - full),
        (x, y - 0.6 * full),
        (x + 0.3 * wide, y - full),
        (x + wide, y - smile),
    ]
    gape = rng.uniform(0.05, 0.16) if rng.random() < 0.35 else 0.0
    lower = [(x + 0.45 * wide, y + 1.2 * full + gape), (x - 0.45 * wide, y + 1.2 * full + gape)]
    fill(canvas, head.at(smooth([*upper, *lower])), lips)
    if gape:
        inner = [
            (x - 0.8 * wide, y - 0.6 * smile),
            (x + 0.8 * wide, y - 0.6 * smile),
            (x + 0.4 * wide, y + gape),
            (x - 0.4 * wide, y + gape),
        ]
        fill(canvas, head.at(smooth(inner)), (70, 24, 26) if gape > 0.12 else (238, 234, 226))
    else:
        stroke(
            canvas,
            [head.at([(x - wide, y - smile), (x, y + 0.2 * full), (x + wide, y - smile)])],
            tint(lips, 0.55),
            0.02 * head.unit,
        )
    stroke(
        canvas,
        [head.at([(x - 0.1, y + gape + 0.17), (x + 0.1, y + gape + 0.17)])],
        mix(look.skin, look.shade, 0.6),
        0.03 * head.unit,
    )
