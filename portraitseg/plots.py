"""Plots: accuracy against cost with the Pareto frontier, bars, heat maps; PNG for documents, SVG for a page."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from portraitseg.markup import Markup, element

#: Pixels of a PNG for each unit.
SCALE = 2

#: Of a scatter plot, with its margins.
WIDTH, HEIGHT = 560, 350
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 26, 40

#: A cost axis from zero becomes a logarithmic one where the greatest cost is this many times the least.
LOG_FROM = 12

#: Kinds are told apart by the colour-blind as well (Okabe and Ito, 2008); in a page its style decides.
_COLOURS = {
    **{"ink": (27, 31, 36), "soft": (91, 101, 112), "grid": (216, 221, 227), "frontier": (91, 101, 112)},
    **{"kind0": (0, 114, 178), "kind1": (213, 94, 0), "kind2": (0, 158, 115)},
    **{"kind3": (204, 121, 167), "kind4": (230, 159, 0), "kind5": (86, 180, 233), "fault": (220, 0, 0)},
}

RGB = tuple[int, int, int]
Number = float | int
XY = tuple[Number, Number]
Box = tuple[Number, Number, Number, Number]

#: Where a name may stand beside its point, in the order of preference: shift, and anchor of the text.
_POSITIONS = (
    *(((7, 0), "lm"), ((-7, 0), "rm"), ((0, -7), "mb"), ((0, 7), "mt")),
    *(((6, -5), "lb"), ((6, 5), "lt"), ((-6, -5), "rb"), ((-6, 5), "rt")),
)


class Picture:
    """What is drawn once for both forms. Colours are roles, or RGB; anchors are Pillow's, such as `lm`."""

    def __init__(self, width: Number, height: Number) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (round(SCALE * width), round(SCALE * height)), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._svg: list[Markup] = []

    def line(self, points: Sequence[XY], role: str, width: Number = 0.5) -> None:
        """A line through points."""
        path = [(SCALE * x, SCALE * y) for x, y in points]
        self._draw.line(path, fill=_COLOURS[role], width=round(SCALE * width))
        self._svg.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=role))

    def box(self, box: Box, colour: RGB | str, frame: str | None = None) -> None:
        """A filled rectangle."""
        scaled = [SCALE * value for value in box]
        outline = _COLOURS[frame] if frame else None
        self._draw.rectangle(scaled, fill=_colour(colour), outline=outline, width=3)
        fill = {"class_": colour} if isinstance(colour, str) else {"fill": f"rgb{colour}"}
        size = {"x": box[0], "y": box[1], "width": box[2] - box[0], "height": box[3] - box[1]}
        self._svg.append(element("rect", **size, **fill, stroke=frame and "red"))

    def dot(self, at: XY, role: str, is_filled: bool = True, hint: str = "") -> None:
        """A point; in a page its hint shows on hovering."""
        x, y = at
        box = [SCALE * value for value in (x - 3, y - 3, x + 3, y + 3)]
        self._draw.ellipse(box, fill=_COLOURS[role] if is_filled else "white", outline=_COLOURS[role], width=2)
        class_ = f"dot {role}{' best' * is_filled}"
        shown = element("title", hint) if hint else None
        self._svg.append(element("circle", shown, cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_=class_))

    def text(self, at: XY, text: str, anchor: str = "lm", size: int = 10, colour: RGB | str = "ink") -> None:
        """A text."""
        x, y = at
        self._draw.text((SCALE * x, SCALE * y), text, _colour(colour), _font(SCALE * size), anchor=anchor)
        down, end = {"m": "0.35em", "t": "0.8em"}.get(anchor[1]), {"m": "middle", "r": "end"}.get(anchor[0])
        where = {"x": f"{x:.1f}", "y": f"{y:.1f}", "dy": down, "text_anchor": end, "font_size": size}
        self._svg.append(element("text", text, **where, class_=colour if isinstance(colour, str) else None))

    def extent(self, at: XY, text: str, anchor: str, size: int = 10) -> Box:
        """Where a text would lie."""
        box = self._draw.textbbox((SCALE * at[0], SCALE * at[1]), text, font=_font(SCALE * size), anchor=anchor)
        return (box[0] / SCALE, box[1] / SCALE, box[2] / SCALE, box[3] / SCALE)

    def legend(self, kinds: Sequence[str], roles: Sequence[str], top: Number) -> None:
        """What the colours mean, three kinds a line."""
        for index, (kind, role) in enumerate(zip(kinds, roles, strict=True)):
            x, y = 16 + (self.width - 32) / 3 * (index % 3), top + 14 * (index // 3)
            self.dot((x, y), role)
            self.text((x + 8, y), kind)

    def to_png(self) -> bytes:
        """The picture as a file."""
        content = io.BytesIO()
        self._image.save(content, "PNG", optimize=True)
        return content.getvalue()

    def to_svg(self, title: str) -> Markup:
        """The picture as an element of a page, whose style gives the roles their colours."""
        view = f"0 0 {self.width:.0f} {self.height:.0f}"
        parts = (element("title", title), *self._svg)
        return element("svg", *parts, viewBox=view, role="img", aria_label=title, class_="plot")


@dataclass(frozen=True)
class Point:
    """One file: what it costs, how good it is, its name, and its kind, which gives it a colour."""

    cost: float
    score: float
    label: str
    kind: str


@dataclass(frozen=True)
class Bar:
    """One bar: its name, length, what stands behind it, and its kind, which gives it a colour."""

    name: str
    length: float
    label: str
    kind: str


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in both respects, cheapest first; of equals the first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def scatter(points: Sequence[Point], title: str, cost_name: str, score_name: str, kinds: Sequence[str] = ()) -> Picture:
    """All points with the frontier; better is up and left.

    The names of the frontier are written beside their points, and of the others those that cover nothing.

    Args:
        points: at least one.
        title: above the plot.
        cost_name, score_name: of the axes, with units.
        kinds: of several plots, so that each has the same colour in all of them.
    """
    roles = _roles([*kinds, *(point.kind for point in points)])
    shown = [kind for kind in roles if any(point.kind == kind for point in points)]
    picture = Picture(WIDTH, HEIGHT + 14 * math.ceil(len(shown) / 3))
    x_axis = Axis.of([point.cost for point in points], LEFT, WIDTH - RIGHT, from_zero=True)
    y_axis = Axis.of([point.score for point in points], HEIGHT - BOTTOM, TOP)
    _draw_axes(picture, x_axis, y_axis, title, cost_name, score_name)
    best = frontier(points)
    corners = [(x_axis(point.cost), y_axis(point.score)) for point in best]
    # a staircase: between two of its files nothing in between can be had
    steps = [corner for before, after in pairwise(corners) for corner in ((after[0], before[1]), after)]
    path = [corners[0], *steps, (WIDTH - RIGHT, corners[-1][1])]
    picture.line(path, "frontier", 1)
    spots = [(x_axis(point.cost), y_axis(point.score)) for point in points]
    # the staircase goes to the right and up
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in spots]
    taken += [(a, d - 1, c + 1, b + 1) for (a, b), (c, d) in pairwise(path)]
    pairs = sorted(zip(points, spots, strict=True), key=lambda pair: pair[0] not in best)
    for point, at in pairs:
        hint = f"{point.label}\n{cost_name} {point.cost:.3g}\n{score_name} {point.score:.2f}"
        picture.dot(at, roles[point.kind], point in best, hint)
        _draw_name(picture, point.label, at, taken, must=point in best)
    picture.legend(shown, [roles[kind] for kind in shown], HEIGHT)
    return picture


def bars(values: Sequence[Bar], title: str) -> Picture:
    """Horizontal bars from the top down, at least one."""
    line, left, top = 12, 235, 30
    roles = _roles([value.kind for value in values])
    end = top + line * len(values)
    picture = Picture(WIDTH, end + 15 + 14 * math.ceil(len(roles) / 3))
    picture.text((10, top / 2), title, size=11)
    scale = (WIDTH - RIGHT - 55 - left) / (max(value.length for value in values) or 1.0)
    for index, value in enumerate(values):
        y, right = top + line * index, left + max(0.5, scale * value.length)
        picture.box((left, y + 1.5, right, y + line - 2), roles[value.kind])
        picture.text((left - 5, y + line / 2), value.name, "rm", 7)
        picture.text((right + 4, y + line / 2), value.label, "lm", 7, "soft")
    picture.legend(list(roles), list(roles.values()), end + 12)
    return picture


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: its colour, what stands in it, whether it is framed as a fault."""

    colour: RGB
    text: str
    is_fault: bool = False


def heat_map(names: Sequence[str], cells: Sequence[Sequence[Cell | None]], title: str) -> Picture:
    """A square of cells, a row and a column for each name; None: empty."""
    side, left = 32, 165
    picture = Picture(left + side * len(names), side * (len(names) + 1))
    picture.text((3, side / 2), title, size=8)
    for index, name in enumerate(names):
        middle = side * (index + 0.5)
        picture.text((3, side + middle), f"{index + 1} {name}", size=7)
        picture.text((left + middle, side / 2), str(index + 1), "mm", 8)
        for column, cell in enumerate(cells[index]):
            if cell is None:
                continue
            x, y = left + side * column, side * (index + 1)
            picture.box((x, y, x + side - 1, y + side - 1), cell.colour, "fault" if cell.is_fault else None)
            ink = (0, 0, 0) if sum(cell.colour) > 382 else (255, 255, 255)
            picture.text((x + side / 2, y + side / 2), cell.text, "mm", 7, ink)
    return picture


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within a range, about as many as asked for."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Values of the form 1, 2 or 5 times a power of ten within a range; both are positive."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    return [round(value, 12) for value in values if low <= value <= high]


@dataclass(frozen=True)
class Axis:
    """Values → units of a picture, with a margin around what is shown.

    Attributes:
        low, high: ends of what is shown; of a log axis as they are, not their logarithms.
        begin, end: where they lie.
        is_log: equal factors are equally far apart.
    """

    low: float
    high: float
    begin: int
    end: int
    is_log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], begin: int, end: int, from_zero: bool = False) -> "Axis":
        """An axis from `begin` to `end` that holds all values."""
        if from_zero and 0 < min(values) < max(values) / LOG_FROM:
            # the slowest would press all others against the axis
            low, high = math.log(min(values)), math.log(max(values))
            margin = 0.08 * (high - low)
            return cls(math.exp(low - margin), math.exp(high + margin), begin, end, is_log=True)
        low, high = (0.0 if from_zero else min(values)), max(values)
        margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
        return cls(0.0 if from_zero else low - margin, high + margin, begin, end)

    def __call__(self, value: float) -> float:
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        return log_ticks(self.low, self.high) if self.is_log else ticks(self.low, self.high)


def _draw_axes(picture: Picture, x_axis: Axis, y_axis: Axis, title: str, cost_name: str, score_name: str) -> None:
    for value in x_axis.ticks():
        x = x_axis(value)
        picture.line([(x, TOP), (x, HEIGHT - BOTTOM)], "grid")
        picture.text((x, HEIGHT - BOTTOM + 4), f"{value:g}", "mt", 9, "soft")
    for value in y_axis.ticks():
        y = y_axis(value)
        picture.line([(LEFT, y), (WIDTH - RIGHT, y)], "grid")
        picture.text((LEFT - 5, y), f"{value:g}", "rm", 9, "soft")
    picture.text((LEFT, TOP / 2), title, size=11)
    picture.text((LEFT - 5, TOP / 2), score_name, "rm", 9)
    picture.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18), cost_name, "mm")


def _draw_name(picture: Picture, name: str, at: XY, taken: list[Box], must: bool) -> None:
    """Puts a name where it covers least of what is there already, and adds it to that; left out where it covers any."""
    options = []
    for (dx, dy), anchor in _POSITIONS:
        where = (at[0] + dx, at[1] + dy)
        box = picture.extent(where, name, anchor, 8)
        outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - (WIDTH - RIGHT)) + max(0.0, TOP - box[1])
        options.append((sum(_overlap(box, other) for other in taken) + 1000 * outside, where, anchor, box))
    covered, where, anchor, box = min(options, key=lambda option: option[0])
    if must or covered == 0:
        picture.text(where, name, anchor, 8)
        taken.append(box)


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _roles(kinds: Sequence[str]) -> dict[str, str]:
    return {kind: f"kind{index % 6}" for index, kind in enumerate(dict.fromkeys(kinds))}


def _colour(colour: RGB | str) -> RGB:
    return _COLOURS[colour] if isinstance(colour, str) else colour


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own: a system may have no font at all
    return ImageFont.load_default(size)
