"""What grows or sits on the head of a synthetic portrait: hair, beards, hats, glasses, earrings, headphones."""

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
from portraitseg.synthetic.person import Look, face_x, head_outline

# style -> (odds, height over the skull, width beside it, how far down it hangs, curl 0-1)
HAIR_STYLES: dict[str, tuple[float, float, float, float, float]] = {
    "bald": (0.07, 0.0, 0.0, -1.0, 0.0),
    "buzz": (0.08, 0.04, 0.03, -0.15, 0.2),
    "short": (0.20, 0.18, 0.08, 0.0, 0.1),
    "quiff": (0.08, 0.38, 0.05, -0.1, 0.2),
    "spiky": (0.06, 0.25, 0.08, -0.05, 0.0),
    "bob": (0.12, 0.20, 0.26, 0.95, 0.1),
    "long": (0.14, 0.18, 0.26, 2.4, 0.1),
    "wavy": (0.10, 0.24, 0.40, 2.2, 0.6),
    "curly": (0.08, 0.36, 0.42, 1.0, 0.9),
    "afro": (0.06, 0.62, 0.62, 0.6, 1.0),
    "bun": (0.06, 0.14, 0.06, 0.1, 0.1),
    "ponytail": (0.05, 0.14, 0.06, 0.1, 0.2),
}


@dataclass(frozen=True)
class Hair:
    """One head of hair: lengths in half heads."""

    style: str
    top: float
    side: float
    hang: float
    curl: float
    parting: float
    hairline: float
    has_bangs: bool


def draw_hair_style(rng: Generator, look: Look) -> Hair:
    """Returns a head of hair, drawn at random; bearded people wear it short more often."""
    names = list(HAIR_STYLES)
    odds = np.array([HAIR_STYLES[n][0] * (0.3 if look.is_bearded and HAIR_STYLES[n][3] > 0.5 else 1) for n in names])
    style = names[int(np.searchsorted(np.cumsum(odds / odds.sum()), rng.random()).clip(0, len(names) - 1))]
    _, top, side, hang, curl = HAIR_STYLES[style]
    return Hair(
        style=style,
        top=top * rng.uniform(0.7, 1.35),
        side=side * rng.uniform(0.7, 1.3),
        hang=hang * rng.uniform(0.75, 1.25) if hang > 0 else hang,
        curl=curl,
        parting=rng.uniform(-0.5, 0.5),
        hairline=rng.uniform(-0.72, -0.52),
        has_bangs=bool(rng.random() < 0.22) and style not in ("buzz", "quiff", "spiky", "afro"),
    )


def hair_patch(rng: Generator, look: Look, hair: Hair, n: int = 72) -> Patch:
    """Returns hair: streaks that run down, or curls, with a band of gloss."""
    fine = noise(rng, *((36, 36) if hair.curl > 0.5 else (4, 60)), (n, n))
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    gloss = rng.uniform(0, 0.5) * np.exp(-((y + 0.55 + 0.25 * x * x) ** 2) / 0.02)
    gain = 1 + 0.25 * fine + look.depth * (look.light[0] * x + look.light[1] * y) + gloss
    base = np.array(look.hair, np.float32)
    return np.clip(base * gain[..., None] + 20 * gloss[..., None], 0, 255).astype(np.uint8)


def _hair_rim(look: Look, hair: Hair, rng: Generator, n: int = 40) -> Outline:
    """Returns the outer edge of the hair from one ear over the crown to the other, (n, 2)."""
    low = 0.5 if hair.hang > 0.3 else 0.12 + hair.hang
    end = np.arccos(np.clip((0.1 - low) / (1.1 + hair.top), -0.9, 0.9))
    t = np.linspace(-end, end, n)
    x = (1.06 * look.head_width + hair.side) * np.sin(t)
    y = 0.1 - (1.1 + hair.top) * np.cos(t)
    bumps = 1 + (0.03 + 0.05 * hair.curl) * noise(rng, 1, 6 + int(14 * hair.curl), (1, n))[0]
    if hair.style == "spiky":
        bumps = bumps + 0.11 * (np.arange(n) % 3 == 1)
    if hair.style == "quiff":
        bumps = bumps + 0.10 * np.clip(np.cos(t - np.sign(hair.parting) * 0.4), 0, 1) ** 4
    return np.stack([x, y], axis=1) * bumps[:, None]


def draw_back_hair(canvas: Canvas, head: Frame, look: Look, hair: Hair, patch: Patch, rng: Generator) -> Outline | None:
    """Draws the hair behind head and neck; returns its outline in pixels, or None if there is none."""
    if hair.style in ("bun", "ponytail"):
        side = 1.0 if hair.parting > 0 else -1.0
        knot = (
            oval(0.5 * hair.parting, -1.15, 0.38, 0.34)
            if hair.style == "bun"
            else smooth(
                mirrored(
                    [(0.3, -0.9), (0.9, -1.0), (1.15, -0.2), (1.05, 1.5), (0.85, 1.7), (0.8, 0.2), (0.5, -0.4)], side
                )
            )
        )
        paint(canvas, head.at(knot), patch, 0.05 * head.unit, (0.3 + hair.curl) * noise(rng, 40, 40, (64, 64)))
        return head.at(knot)
    if hair.hang < 0.3:
        return None
    wide, hang = 1.06 * look.head_width + hair.side, hair.hang
    t = np.linspace(0, 1, 12)[:, None]
    flare = rng.uniform(0.75, 1.15)
    fall = np.concatenate(
        [wide * (1 + (flare - 1) * t) + 0.12 * hair.curl * np.sin(14 * t + rng.uniform(0, 6)), 0.1 + (hang - 0.1) * t],
        axis=1,
    )
    rim = _hair_rim(look, hair, rng)
    ends = np.linspace(0.9 * flare * wide, -0.9 * flare * wide, 9)
    tips = np.stack([ends, hang + rng.uniform(-0.2, 0.2, 9)], axis=1)
    outline = head.at(smooth(np.concatenate([rim, fall, tips, mirrored(fall, -1.0)[::-1]]), 1))
    paint(
        canvas, outline, patch, (0.03 + 0.05 * hair.curl) * head.unit, (0.25 + hair.curl) * noise(rng, 60, 60, (96, 96))
    )
    return outline


def draw_front_hair(canvas: Canvas, head: Frame, look: Look, hair: Hair, patch: Patch, rng: Generator) -> None:
    """Draws the hair over crown, forehead and temples, and the strands that stand off it."""
    if hair.style == "bald":
        return
    rim = _hair_rim(look, hair, rng)
    w, line = look.head_width, hair.hairline
    x = np.linspace(0.92, -0.92, 15)
    y = line + 0.35 * np.abs(x - 0.3 * hair.parting) ** 2.2
    if hair.has_bangs:
        y = -0.30 + rng.uniform(-0.06, 0.08, 15) + 0.1 * np.abs(x)
    elif hair.style not in ("buzz", "afro"):
        y = y + 0.16 * np.clip((x - hair.parting) * np.sign(hair.parting), -0.4, 0.6) + rng.uniform(-0.03, 0.03, 15)
    temple = rng.uniform(0.0, 0.2) if hair.hang > -0.5 else -0.2
    face = np.stack([x * w + 0.25 * look.yaw * w * (1 - np.abs(x)), np.minimum(y, temple)], axis=1)
    sideburn = np.array([(0.97 * w, temple + hair.side)])
    hang = rim[[-1]] * (1.0, 0.4) if hair.hang < 0.3 else np.array([(rim[-1, 0] * 0.98, min(0.7, hair.hang))])
    cap = np.concatenate([rim, hang, sideburn, face, mirrored(sideburn, -1.0), mirrored(hang, -1.0)])
    fringe = (0.02 + 0.05 * hair.curl + 0.02 * rng.random()) * head.unit
    paint(canvas, head.at(cap), patch, fringe, (0.35 + hair.curl) * noise(rng, 56, 56, (96, 96)))
    _draw_strands(canvas, head, look, hair, rim, rng)


def _draw_strands(canvas: Canvas, head: Frame, look: Look, hair: Hair, rim: Outline, rng: Generator) -> None:
    """Draws single hairs off the rim: thinner than a pixel of the final picture, so their alpha is partial."""
    n = int(rng.integers(30, 120) * (0.3 if hair.style == "buzz" else 1))
    length = {"buzz": 0.04, "short": 0.13, "spiky": 0.13, "quiff": 0.13}.get(hair.style, 0.24) * rng.uniform(0.5, 1.4)
    roots = rim[rng.integers(0, len(rim), n)] * rng.uniform(0.85, 0.99, (n, 1))
    out = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    lie = np.stack([-out[:, 1], out[:, 0]], axis=1) * np.sign(roots[:, :1] + hair.parting)
    steps = np.linspace(0, 1, 5)[None, :, None]
    rise, bend = rng.uniform(0, 0.3 + 0.5 * hair.curl, (n, 1, 1)), rng.uniform(0.1, 1.4, (n, 1, 1))
    wave = hair.curl * 0.25 * np.sin(9 * steps + rng.uniform(0, 6, (n, 1, 1))) * lie[:, None]
    lines = roots[:, None] + length * (rise * out[:, None] * steps + bend * lie[:, None] * steps**1.5 + wave)
    if hair.hang > 0.8:  # loose ends along the falls, down to the tips
        side = rng.choice([-1.0, 1.0], (n, 1))
        fall = np.concatenate(
            [
                side * (1.02 * look.head_width + hair.side) * rng.uniform(0.7, 1.03, (n, 1)),
                rng.uniform(0.1, 0.9 * hair.hang, (n, 1)),
            ],
            axis=1,
        )
        drop = np.concatenate([side * rng.uniform(-0.3, 0.5, (n, 1)), rng.uniform(0.3, 1, (n, 1))], axis=1)
        lines = np.concatenate([lines, fall[:, None] + 1.4 * length * drop[:, None] * steps])
    pixels = [head.at(p) for p in lines]
    for k, gain in enumerate((0.7, 1.0, 1.35)):
        stroke(canvas, pixels[k::3], tint(look.hair, gain), 1)


def draw_beard(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    """Draws a full beard, a goatee or a moustache."""
    colour = mix(look.hair, look.shade, rng.uniform(0.05, 0.45))
    grain, w, soft = noise(rng, 40, 40, (64, 64)), look.head_width, 0.035 * head.unit
    kind = rng.choice(["full", "full", "goatee", "moustache"])
    x, patch = face_x(look, 0.0), lit(colour, look.light, look.depth)
    if kind == "full":
        half = np.array(
            [
                (0.98 * w, 0.05),
                (1.0 * w, 0.4),
                (0.78 * w, 0.85),
                (0.45 * w, 1.05 + rng.uniform(0, 0.4)),
                (0, 1.1 + rng.uniform(0, 0.4)),
            ]
        )
        inner = np.array([(0, 0.74), (0.42, 0.72), (0.45, 0.5), (0.86 * w, 0.35)])
        shift = (0.12 * look.yaw * w, 0.0)
        paint(
            canvas,
            head.at(np.concatenate([half, mirrored(half, -1.0)[-2::-1], mirrored(inner, -1.0)[::-1], inner]) + shift),
            patch,
            soft,
            grain,
        )
    if kind == "goatee":
        paint(canvas, head.at(oval(x, 0.92, 0.26, 0.2)), patch, soft, grain)
    lip = smooth([(x - 0.34, 0.62), (x - 0.12, 0.47), (x, 0.5), (x + 0.12, 0.47), (x + 0.34, 0.62), (x, 0.56)])
    paint(canvas, head.at(lip), patch, 0.5 * soft, grain)


def draw_glasses(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    """Draws spectacles, or sunglasses with opaque lenses."""
    y, rx, ry = rng.uniform(-0.08, 0.02), rng.uniform(0.22, 0.30), rng.uniform(0.15, 0.25)
    frame = tint(any_colour(rng), 0.4) if rng.random() < 0.6 else (176, 160, 120)
    is_dark, width = rng.random() < 0.35, rng.uniform(0.02, 0.055) * head.unit
    squareness = rng.random() < 0.5
    for side in (-1.0, 1.0):
        x = face_x(look, 0.45 * side)
        corners = [(x - rx, y - ry), (x + rx, y - ry), (x + 0.9 * rx, y + ry), (x - 0.9 * rx, y + ry)]
        lens = head.at(smooth(corners, 2) if squareness else oval(x, y, rx, ry))
        if is_dark:
            paint(canvas, lens, lit((38, 36, 40), (look.light[0], look.light[1]), 0.9))
        stroke(canvas, [lens], frame, width, closed=True)
        stroke(canvas, [head.at([(x + side * rx, y - 0.05), (side * 0.98 * look.head_width, y - 0.07)])], frame, width)
    bridge = [(face_x(look, -0.45) + rx, y - 0.03), (face_x(look, 0.0), y - 0.08), (face_x(look, 0.45) - rx, y - 0.03)]
    stroke(canvas, [head.at(bridge)], frame, width)


def draw_hat(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    """Draws a cap, a beanie, a brimmed hat, a headscarf or headphones."""
    colour, w = any_colour(rng, 0.9), look.head_width
    patch = lit(colour, look.light, look.depth)
    kind = rng.choice(["cap", "beanie", "brim", "scarf", "headphones"])
    t = np.linspace(-np.pi / 2, np.pi / 2, 18)
    dome = np.stack([1.16 * w * np.sin(t), -0.42 - 0.88 * np.cos(t)], axis=1)
    if kind == "headphones":
        band = np.stack([1.2 * w * np.sin(t), -0.05 - 1.28 * np.cos(t)], axis=1)
        stroke(canvas, [head.at(band)], tint(colour, 0.6), 0.13 * head.unit)
        for side in (-1.0, 1.0):
            paint(canvas, head.at(oval(side * 1.16 * w, 0.0, 0.17, 0.32)), patch)
        return
    if kind == "scarf":
        _draw_scarf(canvas, head, look, colour)
        return
    paint(canvas, head.at(dome), patch)
    if kind == "beanie":
        fold = smooth([(-1.22 * w, -0.75), (1.22 * w, -0.75), (1.2 * w, -0.36), (-1.2 * w, -0.36)])
        paint(canvas, head.at(fold), lit(tint(colour, 0.8), look.light, look.depth))
        if rng.random() < 0.5:
            paint(
                canvas,
                head.at(oval(0, -1.4, 0.24, 0.22)),
                lit(any_colour(rng), look.light),
                0.06 * head.unit,
                noise(rng, 14, 14, (32, 32)),
            )
    elif kind == "cap":
        x = 0.7 * look.yaw
        peak = smooth(
            [
                (-1.0 * w + x, -0.5),
                (1.0 * w + x, -0.5),
                (0.95 * w + 1.3 * x, -0.27),
                (1.3 * x, -0.18),
                (-0.95 * w + 1.3 * x, -0.27),
            ]
        )
        paint(canvas, head.at(peak), lit(tint(colour, 0.65), look.light, look.depth))
    else:
        brim = rng.uniform(1.6, 2.3) * w
        paint(
            canvas,
            head.at(smooth([(-brim, -0.5), (0, -0.66), (brim, -0.5), (0.7 * brim, -0.33), (-0.7 * brim, -0.33)])),
            lit(tint(colour, 0.85), look.light, look.depth),
        )
        stroke(
            canvas, [head.at([(-1.1 * w, -0.64), (0, -0.72), (1.1 * w, -0.64)])], tint(colour, 0.4), 0.12 * head.unit
        )


def _draw_scarf(canvas: Canvas, head: Frame, look: Look, colour: Colour) -> None:
    patch, w = lit(colour, look.light, look.depth), look.head_width
    opening = head_outline(look, 0.86)[4:-3] + np.array((0.1 * look.yaw, 0.06))
    # one polygon around the face: out along the cloth, back along the opening, joined over the brow
    t = np.linspace(0, 2 * np.pi, 28)
    outer = np.stack([1.25 * w * np.sin(t), 0.05 - 1.28 * np.cos(t)], axis=1)
    brow = np.array([(0.55 * w, -0.52), (-0.55 * w, -0.52)]) + np.array((0.1 * look.yaw, 0))
    paint(canvas, head.at(np.concatenate([outer, brow[1:], opening[::-1], brow[:1]])), patch)
    paint(
        canvas,
        head.at(smooth([(-1.15 * w, 0.85), (0, 1.12), (1.15 * w, 0.85), (1.5 * w, 1.8), (0, 2.2), (-1.5 * w, 1.8)])),
        patch,
    )


def draw_earrings(canvas: Canvas, head: Frame, look: Look, rng: Generator) -> None:
    """Draws studs, drops or hoops at the ears."""
    colour = (222, 186, 92) if rng.random() < 0.6 else any_colour(rng, 1.0)
    size, is_hoop = rng.uniform(0.04, 0.14), rng.random() < 0.4
    for side in (-1.0, 1.0):
        ring = head.at(oval(side * 0.99 * look.head_width, 0.24 + size, size, 1.3 * size, 14))
        if is_hoop:
            stroke(canvas, [ring], colour, 0.03 * head.unit, closed=True)
        else:
            fill(canvas, ring, colour)
