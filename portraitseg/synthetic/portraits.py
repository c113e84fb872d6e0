"""Procedural portraits with exact alpha: the embedded data set, so that a fresh clone trains without a download."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from portraitseg.synthetic.background import draw_background
from portraitseg.synthetic.hair import (
    draw_back_hair,
    draw_beard,
    draw_earrings,
    draw_front_hair,
    draw_glasses,
    draw_hair_style,
    draw_hat,
    hair_patch,
)
from portraitseg.synthetic.hands import draw_arm, draw_pose
from portraitseg.synthetic.paint import Canvas, Frame
from portraitseg.synthetic.person import cloth_patch, draw_head, draw_look, draw_torso

COVERAGE = (0.10, 0.72)  # the person's share of the frame, from far to close up
_TRIES = 4  # draws of a person until the coverage fits; the last one is framed so that it does


def render(
    index: int, size: tuple[int, int], seed: int = 0
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Draws one portrait: people before a background, and their alpha.

    The picture is alpha * foreground + (1 - alpha) * background with exactly the alpha that is returned, up to the
    rounding to 8 bits; light, tone, slight blur and noise of a camera are applied to the whole picture afterwards.
    Foreground is every person in the picture (sometimes a second, smaller one), with hair, clothes, hats, glasses and
    WHAT THEY HOLD IN THEIR HANDS (a phone, a cup, a book). Nothing else is, however much it looks like skin.

    The same arguments give the same portrait, whatever was drawn before. The same index and seed at another size give
    the same scene, framed for that size.

    Args:
        index: Number of the portrait, >= 0.
        size: (height, width) in pixels, each >= 1.
        seed: Number of the data set, >= 0.

    Returns:
        image: uint8 (h, w, 3), RGB.
        alpha: uint8 (h, w), 255 = person, 0 = background, in between at edges and fine hair. For frames of at least
            32 x 32 and sides of at most 1:2, about 10% to 70% of the frame.

    Raises:
        ValueError: If the index or seed is negative or the size is empty.
    """
    colour, alpha, background, camera = _render_layers(index, size, seed)
    return _photograph(camera, compose(colour, alpha, background)), alpha


def render_layers(
    index: int, size: tuple[int, int], seed: int = 0
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w 3"]]:
    """The portrait of `render` in layers, before the camera: for clips, in which the people move.

    Returns:
        foreground: RGB times alpha (premultiplied).
        alpha: 0..255.
        background: RGB, whole.

    Raises:
        ValueError: as `render`.
    """
    return _render_layers(index, size, seed)[:3]


def compose(
    foreground: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"], background: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """A premultiplied foreground before a background."""
    return cv2.add(foreground, cv2.multiply(background, cv2.merge([255 - alpha] * 3), scale=1 / 255))


def _render_layers(
    index: int, size: tuple[int, int], seed: int
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w 3"], Generator]:
    if index < 0 or seed < 0 or min(size) < 1:
        raise ValueError(f"index {index}, seed {seed}, size {size}: need index >= 0, seed >= 0, sides >= 1")
    rng = np.random.default_rng([seed, index])
    scene, people, camera = rng.spawn(3)  # separate streams: one part's draws never shift another's
    angle = scene.uniform(0, 2 * np.pi)
    light = (float(np.cos(angle)), float(-abs(np.sin(angle))))  # from the side or from above
    canvas = _draw_people(people, size, light)
    alpha = np.ascontiguousarray(canvas[..., 3])
    background = draw_background(scene, size)
    colour, background = _light(scene, canvas[..., :3], background)
    return colour, alpha, background, camera


def _draw_people(rng: Generator, size: tuple[int, int], light: tuple[float, float]) -> Canvas:
    """Returns the people on a premultiplied canvas (h, w, 4), redrawn until their coverage fits."""
    h, w = size
    zoom = 2 if max(h, w) <= 640 else 1  # drawn at twice the size, so that a hair covers part of a pixel
    for attempt, stream in enumerate(rng.spawn(_TRIES)):
        canvas = np.zeros((zoom * h, zoom * w, 4), np.uint8)
        is_last = attempt == _TRIES - 1
        body = _frame_body(stream, canvas.shape[0], canvas.shape[1], is_last)
        if stream.random() < 0.15 and not is_last:
            _draw_person(canvas, _frame_companion(stream, body), light, stream)
        _draw_person(canvas, body, light, stream)
        if zoom > 1:
            canvas = np.asarray(cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
        if COVERAGE[0] <= canvas[..., 3].mean() / 255 <= COVERAGE[1]:
            break
    return canvas


def _frame_body(rng: Generator, h: int, w: int, is_plain: bool) -> Frame:
    """Returns where the head's centre lies and how large it is: from half length to a close-up cut by the frame."""
    scale = 0.16 if is_plain else 0.07 * 5.2 ** rng.beta(1.4, 1.1)
    unit = scale * (h * w) ** 0.5
    x = w * (0.5 if is_plain else float(np.clip(rng.normal(0.5, 0.13), 0.15, 0.85)))
    top = rng.uniform(0.9, 2.2) if rng.random() < 0.85 else rng.uniform(0.3, 1.0)  # sometimes the crown is cut off
    y = 0.45 * h if is_plain else min(unit * top, 0.62 * h) + max(0.0, 0.45 * h - unit) * rng.random() ** 1.5
    return Frame(x, y, unit, float(np.clip(rng.normal(0, 0.06), -0.2, 0.2)))


def _frame_companion(rng: Generator, body: Frame) -> Frame:
    side = 1.0 if rng.random() < 0.5 else -1.0
    return body.inside(side * rng.uniform(1.6, 3.2), rng.uniform(-0.3, 0.8), scale=rng.uniform(0.5, 0.85))


def _draw_person(canvas: Canvas, body: Frame, light: tuple[float, float], rng: Generator) -> None:
    """Draws one person, from the back to the front."""
    look = draw_look(rng, light)
    hair = draw_hair_style(rng, look)
    tilt = float(np.clip(rng.normal(0, 0.12), -0.35, 0.35))
    head = body.inside(0.0, 1.2, turn=tilt).inside(rng.normal(0, 0.05), -1.2)  # turns about the base of the neck
    streaks, cloth = hair_patch(rng, look, hair), cloth_patch(rng, look)
    poses = {side: draw_pose(rng, side > 0) for side in ((1.0, -1.0) if rng.random() < 0.5 else (-1.0, 1.0))}
    is_hatted = rng.random() < 0.16

    dark = (streaks * 0.8).astype(np.uint8)
    hangs_behind = rng.random() < 0.5
    if not hangs_behind:
        draw_back_hair(canvas, head, look, hair, dark, rng)
    for side, pose in poses.items():
        if pose == "down":
            draw_arm(canvas, body, look, cloth, pose, side, rng)
    if hangs_behind:
        draw_back_hair(canvas, head, look, hair, dark, rng)
    draw_torso(canvas, body, look, cloth, rng)
    draw_head(canvas, head, look, rng)
    if look.is_bearded:
        draw_beard(canvas, head, look, rng)
    if rng.random() < 0.2:
        draw_earrings(canvas, head, look, rng)
    draw_front_hair(canvas, head, look, hair, streaks, rng)
    if rng.random() < 0.25:
        draw_glasses(canvas, head, look, rng)
    if is_hatted:
        draw_hat(canvas, head, look, rng)
    for side, pose in poses.items():
        if pose != "down":
            draw_arm(canvas, body, look, cloth, pose, side, rng)


def _light(
    rng: Generator, colour: np.ndarray, background: np.ndarray
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
    """Returns foreground (premultiplied) and background under one light; sometimes the light is behind the person."""
    near, far = rng.uniform(0.8, 1.0), rng.uniform(0.75, 1.1)
    if rng.random() < 0.12:  # backlit: a dark figure before a bright scene
        near, far = rng.uniform(0.3, 0.6), rng.uniform(1.1, 1.5)
    elif rng.random() < 0.12:  # flash
        near, far = 1.0, rng.uniform(0.3, 0.6)
    # near stays below 1: a premultiplied colour must not exceed its alpha
    return cv2.convertScaleAbs(colour, alpha=near), cv2.convertScaleAbs(background, alpha=far)


def _photograph(rng: Generator, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture as a phone's camera would see it: colour cast, tone, vignette, softness, noise, JPEG."""
    h, w = image.shape[:2]
    warm, green = rng.normal(0, 0.09), rng.normal(0, 0.03)
    exposure = rng.uniform(0.35, 0.6) if rng.random() < 0.1 else rng.uniform(0.8, 1.2)
    gamma, lift = rng.uniform(0.75, 1.3), rng.uniform(0, 14)
    ramp = np.linspace(0, 1, 256)
    gains = exposure * np.array([1 + warm, 1 + green, 1 - warm])
    curve = np.clip(ramp[:, None] * gains, 0, 1) ** gamma * (255 - lift) + lift
    image = cv2.LUT(image, curve.astype(np.uint8)[None])
    if rng.random() < 0.08:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.35:
        y, x = np.mgrid[-1:1:24j, -1:1:24j]
        fall = cv2.resize((1 - rng.uniform(0.1, 0.4) * (x * x + y * y) / 1.5).astype(np.float32), (w, h))
        image = cv2.multiply(image, cv2.merge([fall] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.2, 0.8))
    quality = int(rng.integers(45, 96)) if rng.random() < 0.4 else None
    if rng.random() < 0.8:
        sigma = rng.uniform(0.5, 7)
        grain = (sigma * rng.standard_normal((h, w, 3), dtype=np.float32)).astype(np.int16)
        image = cv2.add(image, grain, dtype=cv2.CV_8U)
    if quality is not None:
        image = _through_jpeg(image, quality)
    return image


def _through_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the RGB image after a JPEG round trip; quality 0-100."""
    packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
