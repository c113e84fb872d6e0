"""Accuracy against what it costs, as inline SVG with the Pareto frontier."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.pages.markup import Markup, element, join

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44

#: Of the names in a plot, about; the browser has the true ones.
_LETTER_PX, _LINE_PX = 5.4, 12.0

#: A cost axis from zero becomes a logarithmic one where the greatest cost is this many times the least.
LOG_FROM = 12


@dataclass(frozen=True)
class Point:
    """One file: what it costs, how good it is, its name, and its kind, which gives it a colour."""

    cost: float
    score: float
    label: str
    kind: str


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in both respects, cheapest first; of equals the first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


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


def scatter(points: Sequence[Point], title: str, cost_name: str, score_name: str, kinds: Sequence[str] = ()) -> Markup:
    """A plot of all points with the frontier; better is up and left.

    The names of the frontier are written beside its points, the others show on hovering.

    Args:
        points: at least one.
        title: for those who do not see it.
        cost_name, score_name: of the axes, with units.
        kinds: of several plots, so that each has the same colour in all of them.
    """
    x_axis, y_axis = (
        Axis.of([p.cost for p in points], LEFT, WIDTH - RIGHT, from_zero=True),
        Axis.of([p.score for p in points], HEIGHT - BOTTOM, TOP),
    )
    best = frontier(points)
    kinds = list(dict.fromkeys([*kinds, *(point.kind for point in points)]))
    shown = [kind for kind in kinds if any(point.kind == kind for point in points)]
    parts = [element("title", title), _grid(x_axis, y_axis), _axis_names(cost_name, score_name)]
    # a staircase: between two of its files nothing in between can be had
    path = "".join(
        f"{'M' if i == 0 else 'H'}{x_axis(p.cost):.1f}{' ' if i == 0 else 'V'}{y_axis(p.score):.1f}"
        for i, p in enumerate(best)
    )
    parts.append(element("path", d=f"{path}H{WIDTH - RIGHT}", class_="frontier"))
    for point in points:
        described = f"{point.label}\n{cost_name} {point.cost:.3g}\n{score_name} {point.score:.2f}"
        dot = element(
            "circle",
            element("title", described),
            cx=f"{x_axis(point.cost):.1f}",
            cy=f"{y_axis(point.score):.1f}",
            r=5,
            class_=f"dot kind{kinds.index(point.kind) % 6}" + (" best" if point in best else ""),
        )
        parts.append(dot)
    parts.append(_names(best, x_axis, y_axis))
    view = f"0 0 {WIDTH} {HEIGHT}"
    svg = element("svg", *parts, viewBox=view, role="img", aria_label=title, class_="plot")
    return element("figure", element("figcaption", title), svg, _legend(kinds, shown), _frontier_list(best))


@dataclass(frozen=True)
class Axis:
    """Values → pixels, with a margin around what is shown.

    Attributes:
        low, high: ends of what is shown; of a log axis as they are, not their logarithms.
        begin_px, end_px: where they lie.
        is_log: equal factors are equally far apart.
    """

    low: float
    high: float
    begin_px: int
    end_px: int
    is_log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], begin_px: int, end_px: int, from_zero: bool = False) -> "Axis":
        """An axis from `begin_px` to `end_px` that holds all values."""
        if from_zero and 0 < min(values) < max(values) / LOG_FROM:
            # the slowest would press all others against the axis
            low, high = math.log(min(values)), math.log(max(values))
            margin = 0.08 * (high - low)
            return cls(math.exp(low - margin), math.exp(high + margin), begin_px, end_px, is_log=True)
        low, high = (0.0 if from_zero else min(values)), max(values)
        margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
        return cls(0.0 if from_zero else low - margin, high + margin, begin_px, end_px)

    def __call__(self, value: float) -> float:
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin_px + share * (self.end_px - self.begin_px)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        return log_ticks(self.low, self.high) if self.is_log else ticks(self.low, self.high)


def _grid(x_axis: Axis, y_axis: Axis) -> Markup:
    parts = []
    for value in x_axis.ticks():
        x = f"{x_axis(value):.1f}"
        parts.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
        parts.append(element("text", f"{value:g}", x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    for value in y_axis.ticks():
        y = f"{y_axis(value):.1f}"
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{value:g}", x=LEFT - 6, y=y, dy="0.35em", text_anchor="end"))
    return join(*parts)


def _names(best: Sequence[Point], x_axis: Axis, y_axis: Axis) -> Markup:
    """The frontier's names below their points, on the side that has room; one that would cover another is left out."""
    parts = []
    taken: list[tuple[float, float, float]] = []
    for point in reversed(best):
        x, y = x_axis(point.cost), y_axis(point.score)
        is_right = x > (LEFT + WIDTH - RIGHT) * 0.6
        # under the staircase, which goes up and to the right
        placed = {"x": f"{x + (-9 if is_right else 9):.1f}", "y": f"{y + 15:.1f}"}
        begin = x - is_right * _LETTER_PX * len(point.label)
        box = (begin, begin + _LETTER_PX * len(point.label), y)
        if any(box[0] < right and left < box[1] and abs(box[2] - other) < _LINE_PX for left, right, other in taken):
            continue
        taken.append(box)
        parts.append(element("text", point.label, **placed, text_anchor="end" if is_right else None, class_="name"))
    return join(*parts)


def _axis_names(cost_name: str, score_name: str) -> Markup:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return join(
        element("text", cost_name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
        element("text", score_name, text_anchor="middle", transform=f"translate(14 {middle:.0f}) rotate(-90)"),
    )


def _legend(kinds: Sequence[str], shown: Sequence[str]) -> Markup:
    items = [
        element("span", element("i", class_=f"swatch kind{kinds.index(kind) % 6}"), kind, class_="key")
        for kind in shown
    ]
    return element("p", *items, class_="legend")


def _frontier_list(best: Sequence[Point]) -> Markup:
    names = ", ".join(f"{point.label} ({point.cost:.3g}, {point.score:.2f})" for point in best)
    return element("p", f"On the frontier: {names}", class_="note")
