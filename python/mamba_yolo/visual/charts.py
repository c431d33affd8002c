"""Small drawings for a page: lines, a heat map and a confusion table, as SVG and HTML without any library.

Colours and letters follow the page, so one drawing serves light and dark. Test: tests/visual/test_charts.py.

Legend: K points of a line, n bins of a side, nc classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mamba_yolo.visual.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = npt.NDArray[Any]

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 36  # margins around the plot
WIDE, NAMES, ROW_HEIGHT = 640, 170, 22  # of an interval chart: width, room for the names, height of a line
FILE_STYLE = (
    "text{font:12px sans-serif;fill:#333}path{fill:none}circle{fill:#2563c9}"
    ".rule{stroke:#ddd}.first{stroke:#2563c9;stroke-dasharray:3 4}.spread{stroke:#2563c9;stroke-width:2}"
)
TICKS = 4
MOST_POINTS = 240  # of a line; more cannot be seen at this size


class Line(NamedTuple):
    """A named line: (K,) x and y, NaN for gaps, and any CSS colour."""

    name: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    colour: str = "currentColor"
    bold: bool = False


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, *, unit_square: bool = False) -> Html:
    """Lines over a light grid; both axes from 0 to 1, or as wide as the values ask for. An axis may be nameless."""
    points = [_thinned(np.asarray(line.x, float), np.asarray(line.y, float)) for line in lines]
    x_axis = _axis(np.array([0, 1.0]) if unit_square else np.concatenate([x for x, _ in points] or [np.zeros(0)]))
    y_axis = _axis(np.array([0, 1.0]) if unit_square else np.concatenate([y for _, y in points] or [np.zeros(0)]))
    parts = [_grid(x_axis, y_axis, x_label, y_label)]
    for line, (x, y) in zip(lines, points, strict=True):
        left, top = _place(x, x_axis, LEFT, WIDTH - RIGHT), _place(y, y_axis, HEIGHT - BOTTOM, TOP)
        if np.isfinite(y).sum() == 1:  # one epoch: a dot, for a line needs two
            k = int(np.isfinite(y).argmax())
            parts.append(tag("circle", cx=_short(left[k]), cy=_short(top[k]), r=3, style=f"fill:{line.colour}"))
        path = tag("path", tag("title", line.name), d=_path(left, top), style=f"stroke:{line.colour}")
        parts.append(tag("g", path, class_="line bold" if line.bold else "line"))
    return _drawing(parts, f"{y_label or 'lines'} over {x_label}")


class Interval(NamedTuple):
    """A named value with its spread to both sides; 0 for none."""

    name: str
    middle: float
    spread: float


def interval_chart(rows: Sequence[Interval], x_label: str) -> Html:
    """One line for each value, from top to bottom: a dot and its spread; a dashed rule at the first."""
    ends = np.array([row.middle + side * row.spread for row in rows for side in (-1, 1)])
    axis, bottom = _axis(ends), TOP + ROW_HEIGHT * len(rows)
    parts = []
    for value in _ticks(axis):
        x = _across(value, axis)
        parts.append(tag("path", d=f"M{x} {TOP}V{bottom}", class_="rule"))
        parts.append(tag("text", f"{value:.4g}", x=x, y=bottom + 14, text_anchor="middle"))
    if rows:
        parts.append(tag("path", d=f"M{_across(rows[0].middle, axis)} {TOP}V{bottom}", class_="first"))
    for i, row in enumerate(rows):
        y = TOP + ROW_HEIGHT * (i + 0.5)
        low, high = (_across(row.middle + side * row.spread, axis) for side in (-1, 1))
        parts.append(tag("text", row.name, x=NAMES - 12, y=y, dy=4, text_anchor="end"))
        parts.append(tag("path", d=f"M{low} {y}H{high}", class_="spread"))
        parts.append(tag("circle", cx=_across(row.middle, axis), cy=y, r=4))
    parts.append(tag("text", x_label, x=(NAMES + WIDE - RIGHT) / 2, y=bottom + 30, text_anchor="middle"))
    return tag("svg", *parts, viewBox=f"0 0 {WIDE} {bottom + BOTTOM}", role="img", aria_label=x_label, class_="chart")


def standalone(drawing: Html) -> str:
    """A drawing as an SVG file of its own, dark on white."""
    opening, rest = drawing.split(">", 1)
    back = tag("rect", width="100%", height="100%", fill="white")
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{tag("style", Html(FILE_STYLE))}{back}{rest}\n'


def heat_map(counts: Array, x_label: str, y_label: str, *, downwards: bool = False) -> Html:
    """(n, n) counts, first axis x and second y, as a square of darker and lighter cells; axes from 0 to 1."""
    axis = (0.0, 1.0)
    parts = [_grid(axis, axis, x_label, y_label, downwards=downwards)]
    n, most = len(counts), max(float(np.max(counts, initial=0)), 1.0)
    wide, high = (WIDTH - LEFT - RIGHT) / n, (HEIGHT - TOP - BOTTOM) / n
    for column, row in np.argwhere(counts > 0):
        top = TOP + (row if downwards else n - 1 - row) * high
        place = {"x": _short(LEFT + column * wide), "y": _short(top), "width": _short(wide), "height": _short(high)}
        parts.append(tag("rect", **place, fill_opacity=f"{math.sqrt(counts[column, row] / most):.2f}", class_="cell"))
    return _drawing(parts, f"{y_label} over {x_label}")


def confusion_table(matrix: Array, names: Sequence[str]) -> Html:
    """(nc + 1, nc + 1) counts, rows predicted, columns true, background last; shaded by share of a true class."""
    labels = [*names, "background"]
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1)
    head = tag(
        "tr", tag("th", "true →", tag("br"), "predicted ↓"), *(tag("th", label, scope="col") for label in labels)
    )
    rows = []
    for label, numbers, shares in zip(labels, counts, share, strict=True):
        cells = [
            tag("td", number, tag("small", f"{part:.0%}"), style=f"--share:{part:.3f}") if number else tag("td", "·")
            for number, part in zip(numbers.tolist(), shares.tolist(), strict=True)
        ]
        rows.append(tag("tr", tag("th", label, scope="row"), *cells))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="confusion")
    return tag("div", table, class_="scroll", tabindex=0)


def _drawing(parts: Sequence[Html], label: str) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_="chart")


def _axis(values: Array) -> tuple[float, float]:
    """Bounds of an axis."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if high == low:
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    return low, high


def _ticks(axis: tuple[float, float]) -> list[float]:
    """About four round numbers inside an axis."""
    low, high = axis
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _grid(
    x_axis: tuple[float, float], y_axis: tuple[float, float], x_label: str, y_label: str, *, downwards: bool = False
) -> Html:
    """Grid lines, their numbers and the names of both axes."""
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in _ticks(x_axis):
        x = _short(_place(np.array(value), x_axis, LEFT, WIDTH - RIGHT))
        parts.append(tag("path", d=f"M{x} {TOP}V{bottom}"))
        parts.append(tag("text", f"{value:.4g}", x=x, y=bottom + 14, text_anchor="middle"))
    for value in _ticks(y_axis):
        y = _short(_place(np.array(value), y_axis, *((TOP, bottom) if downwards else (bottom, TOP))))
        parts.append(tag("path", d=f"M{LEFT} {y}H{WIDTH - RIGHT}"))
        parts.append(tag("text", f"{value:.4g}", x=LEFT - 5, y=y, dy=4, text_anchor="end"))
    parts.append(tag("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle"))
    turned = f"translate(11 {(TOP + bottom) / 2}) rotate(-90)"
    if y_label:
        parts.append(tag("text", y_label, transform=turned, text_anchor="middle"))
    return tag("g", *parts, class_="grid")


def _across(value: float, axis: tuple[float, float]) -> str:
    """Horizontal place in an interval chart."""
    return _short(_place(np.array(value), axis, NAMES, WIDE - RIGHT))


def _place(values: Array, axis: tuple[float, float], start: float, end: float) -> Array:
    share: Array = (values - axis[0]) / (axis[1] - axis[0])
    return start + share * (end - start)


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """At most MOST_POINTS points, first and last among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return x[chosen], y[chosen]


def _path(left: Array, top: Array) -> str:
    """Path data; a point that is not a number lifts the pen."""
    words, pen = [], "M"
    for x, y in zip(left.tolist(), top.tolist(), strict=True):
        if math.isfinite(x) and math.isfinite(y):
            words.append(f"{pen}{_short(x)} {_short(y)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)


def _short(value: Any) -> str:
    return f"{float(value):.1f}".removesuffix(".0")
