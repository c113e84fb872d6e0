"""Plots as PNG, for documents that show no page: accuracy against cost, and bars; every name is written out."""

import io
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from benchmark.pages.plots import Axis, Point, frontier

WIDTH, HEIGHT = 1100, 720
LEFT, RIGHT, TOP, BOTTOM = 90, 30, 60, 80

#: Radius of a point in pixels.
_DOT = 6

_INK, _SOFT, _GRID = (27, 31, 36), (91, 101, 112), (216, 221, 227)

#: Told apart by the colour-blind as well (Okabe and Ito, 2008).
_KINDS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))

Box = tuple[float | int, float | int, float | int, float | int]

#: Where a name may stand beside its point, in the order of preference: shift in pixels, and anchor of the text.
_PLACES = (
    ((12, 0), "lm"),
    ((-12, 0), "rm"),
    ((0, -12), "mb"),
    ((0, 12), "mt"),
    ((10, -10), "lb"),
    ((10, 10), "lt"),
    ((-10, -10), "rb"),
    ((-10, 10), "rt"),
)


def scatter_png(points: Sequence[Point], title: str, cost_name: str, score_name: str) -> bytes:
    """A plot of all points with the frontier; better is up and left.

    Args:
        points: at least one.
        title: above the plot.
        cost_name, score_name: of the axes, with units.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    x_axis = Axis.of([point.cost for point in points], LEFT, WIDTH - RIGHT, from_zero=True)
    y_axis = Axis.of([point.score for point in points], HEIGHT - BOTTOM, TOP)
    _draw_grid(draw, x_axis, y_axis)
    draw.text((LEFT, TOP / 2), title, _INK, _font(22), anchor="lm")
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 42), cost_name, _INK, _font(17), anchor="mm")
    _draw_upwards(image, score_name)
    best = frontier(points)
    corners = [(x_axis(point.cost), y_axis(point.score)) for point in best]
    # a staircase: between two of its files nothing in between can be had
    steps = [corner for before, after in pairwise(corners) for corner in ((after[0], before[1]), after)]
    path = [corners[0], *steps, (WIDTH - RIGHT, corners[-1][1])]
    draw.line(path, fill=_SOFT, width=2)
    places = [(x_axis(point.cost), y_axis(point.score)) for point in points]
    kinds = list(dict.fromkeys(point.kind for point in points))
    dots = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in places]
    # the staircase goes to the right and up
    taken = [*dots, *((a, d - 2, c + 2, b + 2) for (a, b), (c, d) in pairwise(path))]
    for point, place, dot in zip(points, places, dots, strict=True):
        colour = _KINDS[kinds.index(point.kind) % len(_KINDS)]
        draw.ellipse(dot, fill=colour if point in best else "white", outline=colour, width=2)
        _draw_name(draw, point.label, place, taken)
    for index, kind in enumerate(kinds):
        x, y = LEFT + 20 + 240 * index, HEIGHT - 16
        draw.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=_KINDS[index % len(_KINDS)])
        draw.text((x + 14, y), kind, _INK, _font(16), anchor="lm")
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _draw_grid(draw: ImageDraw.ImageDraw, x_axis: Axis, y_axis: Axis) -> None:
    for value in x_axis.ticks():
        x = x_axis(value)
        draw.line((x, TOP, x, HEIGHT - BOTTOM), fill=_GRID)
        draw.text((x, HEIGHT - BOTTOM + 8), f"{value:g}", _SOFT, _font(15), anchor="mt")
    for value in y_axis.ticks():
        y = y_axis(value)
        draw.line((LEFT, y, WIDTH - RIGHT, y), fill=_GRID)
        draw.text((LEFT - 8, y), f"{value:g}", _SOFT, _font(15), anchor="rm")


def _draw_upwards(image: Image.Image, text: str) -> None:
    label = Image.new("RGB", (HEIGHT - TOP - BOTTOM, 26), "white")
    ImageDraw.Draw(label).text((label.width / 2, 13), text, _INK, _font(17), anchor="mm")
    image.paste(label.rotate(90, expand=True), (6, TOP))


def _draw_name(draw: ImageDraw.ImageDraw, name: str, place: tuple[float, float], taken: list[Box]) -> None:
    """Puts a name where it covers least of what is there already, and adds it to that."""
    boxes = []
    for (dx, dy), anchor in _PLACES:
        where = (place[0] + dx, place[1] + dy)
        box = draw.textbbox(where, name, font=_font(15), anchor=anchor)
        outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - (WIDTH - RIGHT)) + max(0.0, TOP - box[1])
        boxes.append((sum(_overlap(box, other) for other in taken) + 1000 * outside, where, anchor, box))
    _, where, anchor, box = min(boxes, key=lambda found: found[0])
    draw.text(where, name, _INK, _font(15), anchor=anchor)
    taken.append(box)


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own: a system may have no font at all
    return ImageFont.load_default(size)


def bars_png(bars: Sequence[tuple[str, float, str]], title: str, unit: str) -> bytes:
    """Horizontal bars from the top down.

    Args:
        bars: (name, length, kind, which gives it a colour), at least one.
        title: above the plot.
        unit: behind each bar's number.
    """
    line_px, left = 24, 470
    kinds = list(dict.fromkeys(kind for _, _, kind in bars))
    height = TOP + line_px * len(bars) + 30 + line_px * ((len(kinds) + 2) // 3)
    image = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((20, TOP / 2), title, _INK, _font(22), anchor="lm")
    longest = max(length for _, length, _ in bars) or 1.0
    scale = (WIDTH - RIGHT - 110 - left) / longest
    for index, (name, length, kind) in enumerate(bars):
        y = TOP + line_px * index
        colour = _KINDS[kinds.index(kind) % len(_KINDS)]
        draw.rectangle((left, y + 3, left + max(1.0, scale * length), y + line_px - 4), fill=colour)
        draw.text((left - 10, y + line_px / 2), name, _INK, _font(14), anchor="rm")
        draw.text((left + scale * length + 8, y + line_px / 2), f"{length:.3f} {unit}", _SOFT, _font(14), anchor="lm")
    for index, kind in enumerate(kinds):
        x, y = 30 + 350 * (index % 3), TOP + line_px * len(bars) + 30 + line_px * (index // 3)
        draw.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=_KINDS[index % len(_KINDS)])
        draw.text((x + 14, y), kind, _INK, _font(14), anchor="lm")
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()
