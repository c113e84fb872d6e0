"""Arms, hands and what they hold in a synthetic portrait. Held things count as person."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from portraitseg.synthetic.paint import (
    Canvas,
    Colour,
    Frame,
    Patch,
    any_colour,
    box,
    fill,
    limb,
    lit,
    mirrored,
    oval,
    paint,
    smooth,
    stroke,
    tint,
)
from portraitseg.synthetic.person import Look, cloth_patch, draw_look

# pose -> elbow (x beyond the shoulder, y), wrist (x, y), where the hand points, both for the right of the picture
POSES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "down": ((0.25, 3.9), (1.75, 5.5), (0.0, 1.0)),
    "akimbo": ((0.95, 3.6), (1.15, 4.8), (-0.6, 0.6)),
    "crossed": ((0.25, 3.7), (-0.6, 3.5), (-1.0, -0.15)),
    "raised": ((0.75, 3.1), (2.1, 1.2), (0.0, -1.0)),
    "chin": ((0.05, 3.5), (0.75, 1.95), (-0.35, -0.9)),
    "face": ((0.25, 3.3), (0.95, 1.25), (-0.5, -0.85)),
    "temple": ((0.95, 2.0), (1.15, 0.35), (-0.35, -0.9)),
    "hold": ((0.15, 3.6), (0.95, 2.9), (-0.3, -0.95)),
    "ear": ((0.45, 3.2), (1.2, 1.25), (-0.25, -0.95)),
}
# gesture -> length of each finger (index to little), 1 = stretched; then whether the thumb stands out
GESTURES: dict[str, tuple[tuple[float, float, float, float], bool]] = {
    "open": ((1, 1, 1, 1), True),
    "flat": ((1, 1, 1, 1), False),
    "fist": ((0.3, 0.3, 0.3, 0.3), False),
    "victory": ((1, 1, 0.3, 0.3), False),
    "point": ((1, 0.3, 0.3, 0.3), False),
    "thumb": ((0.3, 0.3, 0.3, 0.3), True),
    "curled": ((0.6, 0.65, 0.6, 0.55), True),
}


def draw_pose(rng: Generator, is_right: bool) -> str:
    """Returns a pose's name; the right arm is the busier one."""
    if rng.random() < (0.45 if is_right else 0.8):
        return "down"
    return str(rng.choice([p for p in POSES if p != "down"]))


def draw_arm(canvas: Canvas, body: Frame, look: Look, patch: Patch, pose: str, side: float, rng: Generator) -> None:
    """Draws one arm in its sleeve with its hand, and what the hand holds.

    Args:
        canvas: Premultiplied canvas.
        body: Frame whose origin is the head's centre.
        look: The person.
        patch: Cloth of the sleeve.
        pose: A key of POSES.
        side: 1 for the right of the picture, -1 for the left.
        rng: Source of the small variations.
    """
    (ex, ey), wrist, aim = POSES[pose]
    s, jitter = look.shoulder, rng.uniform(-0.18, 0.18, 4)
    shoulder = (s - 0.36, 2.2 + look.slope)
    elbow = (s + ex + jitter[0], ey + jitter[1])
    hand_at = (wrist[0] * (s / 1.8 if pose == "down" else 1) + jitter[2], wrist[1] + jitter[3])
    thick = rng.uniform(0.30, 0.42)
    is_bare = look.collar == "straps" or (rng.random() < 0.35 and look.collar in ("crew", "v"))
    upper = lit(look.skin, look.light, look.depth) if look.collar == "straps" else patch
    lower = lit(look.skin, look.light, look.depth) if is_bare else patch
    arm = [(side * x, y) for x, y in (shoulder, elbow, hand_at)]
    fore = limb(arm[1], arm[2], thick * 0.85 if is_bare else thick, 0.2 if is_bare else 0.27)
    shaded = (upper * 0.9).astype(np.uint8)
    paint(canvas, body.at(limb(arm[0], arm[1], thick + 0.06, thick)), shaded)
    stroke(
        canvas,
        [body.at([(arm[0][0] * 0.9, arm[0][1] + 0.5), (arm[1][0] * 0.92, arm[1][1] - 0.2)])],
        tint(look.cloth if upper is patch else look.skin, 0.6),
        0.03 * body.unit,
    )
    aim_angle = np.arctan2(aim[0] * side, -aim[1]) + rng.uniform(-0.3, 0.3)
    hand = body.inside(*arm[2], scale=rng.uniform(1.0, 1.2), turn=float(aim_angle))
    hand = hand.inside(0.0, -0.42)
    if pose in ("hold", "ear"):
        fill(canvas, hand.at(limb((0, 0.42), (0, 0), 0.2, 0.26)), look.skin)
        paint(canvas, body.at(fore), lower)
        _draw_held(canvas, hand, look, pose, side, rng)
        return
    paint(canvas, body.at(fore), lower)
    gestures = ["open", "flat", "victory", "point", "thumb"] if pose == "raised" else ["flat", "curled", "fist", "open"]
    draw_hand(canvas, hand, look, str(rng.choice(gestures)), side, rng)


def draw_hand(canvas: Canvas, hand: Frame, look: Look, gesture: str, side: float, rng: Generator) -> None:
    """Draws a hand, fingers towards the frame's -y, thumb on the side of the body."""
    lengths, has_thumb = GESTURES[gesture]
    dark, spread = tint(look.shade, 0.85), rng.uniform(0.05, 0.2) if gesture == "open" else rng.uniform(0.0, 0.06)
    palm = smooth(
        mirrored(
            [(-0.27, -0.2), (0, -0.25), (0.27, -0.18), (0.24, 0.25), (0.15, 0.45), (-0.15, 0.45), (-0.26, 0.2)], side
        )
    )
    fill(canvas, hand.at(palm * 1.05), dark)
    parts = []
    for k, (share, full) in enumerate(zip(lengths, (0.55, 0.62, 0.57, 0.44), strict=True)):
        x, angle = -0.2 + 0.135 * k, (k - 1.5) * spread
        tip = (x + share * full * np.sin(angle), -0.2 - share * full * np.cos(angle))
        parts.append(((x, -0.12), tip, 0.088, 0.068))
    angle = -0.85 if has_thumb else -0.3
    parts.append(((-0.2, 0.2), (-0.24 + 0.46 * np.sin(angle), 0.14 - 0.46 * np.cos(angle)), 0.12, 0.075))
    for p, q, rp, rq in parts:
        outline = mirrored(limb(p, q, rp, rq), side)
        fill(canvas, hand.at(mirrored(limb(p, q, rp + 0.018, rq + 0.018), side)), dark)
        paint(canvas, hand.at(outline), lit(tint(look.skin, 1.03), look.light, look.depth, 8))
    paint(canvas, hand.at(palm), lit(look.skin, look.light, look.depth, 12), 0.04 * hand.unit)
    for p, q, _, rq in parts[:4] if rng.random() < 0.5 else []:
        nail = np.add(q, np.subtract(p, q) * 0.04)
        fill(canvas, hand.at(mirrored(oval(nail[0], nail[1], 0.6 * rq, 0.8 * rq, 10), side)), tint(look.skin, 1.16))


def draw_cutout(rng: Generator, side: int) -> UInt8[np.ndarray, "side side 4"]:
    """Draws a hand with its forearm, a hand that holds something, or a thing alone, with nothing around it.

    Args:
        rng: source of all that varies.
        side: of the square, pixels, at least 1.

    Returns:
        RGBA, not premultiplied; the arm comes from below.
    """
    canvas = np.zeros((2 * side, 2 * side, 4), np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    look = draw_look(rng, (float(np.cos(angle)), float(-abs(np.sin(angle)))))
    handedness = 1.0 if rng.random() < 0.5 else -1.0
    hand = Frame(float(side), 0.95 * side, 0.62 * side, float(rng.uniform(-0.3, 0.3)))
    kind = rng.choice(["hand", "holding", "thing"], p=[0.4, 0.4, 0.2])
    if kind != "thing":
        sleeve = lit(look.skin, look.light, look.depth) if rng.random() < 0.5 else cloth_patch(rng, look)
        paint(canvas, hand.at(limb((0, 0.3), (0, 2.2), 0.22, 0.34)), lit(look.skin, look.light, look.depth))
        paint(canvas, hand.at(limb((0, rng.uniform(0.5, 1.2)), (0, 2.4), 0.32, 0.4)), sleeve)
    if kind == "hand":
        draw_hand(canvas, hand, look, str(rng.choice(list(GESTURES))), handedness, rng)
    elif kind == "holding":
        _draw_held(canvas, hand, look, "hold", handedness, rng)
    else:
        colour = any_colour(rng, 0.9)
        draw = str(rng.choice(["phone", "cup", "book"]))
        if draw == "phone":
            _draw_phone(canvas, hand, colour, rng)
        elif draw == "cup":
            _draw_cup(canvas, hand, look, colour, handedness, rng)
        else:
            _draw_book(canvas, hand, look, colour, handedness, rng)
    small = np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    alpha = small[..., 3:]
    small[..., :3] *= 255 / np.maximum(alpha, 1)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _grip(canvas: Canvas, hand: Frame, look: Look, side: float, reach: float) -> None:
    """Draws four fingers bent around a held thing and the thumb on its other side."""
    dark = tint(look.shade, 0.8)
    for k in range(4):
        y = -0.32 + 0.165 * k
        p, q = (0.34 * side, y), ((0.34 - reach) * side, y + 0.03)
        fill(canvas, hand.at(limb(p, q, 0.1, 0.092)), dark)
        paint(canvas, hand.at(limb(p, q, 0.085, 0.075)), lit(look.skin, look.light, look.depth, 8))
    thumb = limb((-0.3 * side, 0.25), (-0.28 * side, -0.3), 0.11, 0.08)
    paint(canvas, hand.at(thumb), lit(tint(look.skin, 1.03), look.light, look.depth, 8))


def _draw_held(canvas: Canvas, hand: Frame, look: Look, pose: str, side: float, rng: Generator) -> None:
    kind = "phone" if pose == "ear" else str(rng.choice(["phone", "cup", "book"]))
    upright = Frame(hand.x, hand.y, hand.unit, hand.angle * 0.4)
    colour = any_colour(rng, 0.9)
    if kind == "phone":
        _draw_phone(canvas, upright, colour, rng)
    elif kind == "cup":
        _draw_cup(canvas, upright, look, colour, side, rng)
    else:
        _draw_book(canvas, upright, look, colour, side, rng)
    _grip(canvas, upright, look, side, 0.25 if kind == "phone" else 0.5)


def _draw_phone(canvas: Canvas, frame: Frame, colour: Colour, rng: Generator) -> None:
    case = smooth(box(0, -0.25, 0.36, 0.72), 2)
    fill(canvas, frame.at(case), tint(colour, 0.5))
    if rng.random() < 0.5:  # the back, with its cameras
        fill(canvas, frame.at(smooth(box(-0.16, -0.68, 0.12, 0.17))), (28, 28, 30))
        fill(canvas, frame.at(oval(-0.16, -0.74, 0.05, 0.05, 10)), (80, 84, 92))
    else:
        fill(canvas, frame.at(smooth(box(0, -0.25, 0.31, 0.65), 1)), any_colour(rng, 0.6))


def _draw_cup(canvas: Canvas, frame: Frame, look: Look, colour: Colour, side: float, rng: Generator) -> None:
    top, low = rng.uniform(0.34, 0.46), rng.uniform(0.24, 0.36)
    if rng.random() < 0.6:
        stroke(
            canvas, [frame.at(oval(-0.42 * side, -0.1, 0.2, 0.24))], tint(colour, 0.8), 0.09 * frame.unit, closed=True
        )
    paint(canvas, frame.at([(-top, -0.62), (top, -0.62), (low, 0.46), (-low, 0.46)]), lit(colour, look.light, 0.4))
    fill(canvas, frame.at(oval(0, -0.62, top, 0.09)), tint(colour, 0.75))
    fill(canvas, frame.at(oval(0, -0.61, 0.88 * top, 0.065)), (58, 36, 24))


def _draw_book(canvas: Canvas, frame: Frame, look: Look, colour: Colour, side: float, rng: Generator) -> None:
    centre, rx, ry = -0.35 * side, rng.uniform(0.6, 0.85), rng.uniform(0.75, 1.0)
    fill(canvas, frame.at(box(centre + 0.04, -0.26, rx, ry)), (228, 222, 206))
    paint(canvas, frame.at(box(centre, -0.3, rx, ry)), lit(colour, look.light, 0.25))
    ink = any_colour(rng, 0.9)
    for k in range(int(rng.integers(1, 4))):
        fill(canvas, frame.at(box(centre, -0.75 + 0.22 * k, rx * rng.uniform(0.3, 0.75), 0.05)), ink)
