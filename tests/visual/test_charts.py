"""Charts: the right places, gaps, empty data, and labels that stay text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mamba_yolo.visual.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    NAMES,
    RIGHT,
    TOP,
    WIDE,
    WIDTH,
    Interval,
    Line,
    _ticks,
    confusion_table,
    heat_map,
    interval_chart,
    line_chart,
    standalone,
)


def paths(svg):
    return [e.get("d") for g in ET.fromstring(svg).iter("g") if "line" in g.get("class", "") for e in g.iter("path")]


def points(data):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", data)]


def test_a_line_fills_its_axes():
    (data,) = paths(line_chart([Line("a", [1, 2, 3], [10, 20, 30])], "epoch", "loss"))
    assert points(data) == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2),
        (WIDTH - RIGHT, TOP),
    ]


def test_unit_square_is_not_stretched():
    (data,) = paths(line_chart([Line("a", [0, 0.5], [0, 0.5])], "r", "p", unit_square=True))
    assert points(data)[1] == ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)


def test_nan_lifts_the_pen():
    (data,) = paths(line_chart([Line("a", [0, 1, 2, 3], [0, 1, np.nan, 3])], "x", "y"))
    assert re.sub(r"[\d. -]", "", data) == "MLM"


def test_one_epoch_is_a_dot_and_nothing_is_a_grid():
    assert "<circle" in line_chart([Line("a", [1], [0.5])], "epoch", "loss")
    empty = line_chart([], "epoch", "loss")
    assert not paths(empty)
    assert "<circle" not in empty
    ET.fromstring(line_chart([Line("a", [1, 2], [np.nan, np.nan])], "epoch", "loss"))


def test_long_lines_keep_their_ends():
    x = np.linspace(0, 1, 1001)
    (data,) = paths(line_chart([Line("a", x, x)], "x", "y", unit_square=True))
    found = points(data)
    assert len(found) == MOST_POINTS
    assert (found[0], found[-1]) == ((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 60), (0, 3e-5), (-4, 7), (9.99, 10.01), (0, 12345)])
def test_ticks_are_few_and_inside(low, high):
    ticks = _ticks((low, high))
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 <= t <= high * (1 + 1e-9) for t in ticks)
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_heat_map_places_cells():
    counts = np.zeros((4, 4))
    counts[0, 3], counts[2, 0] = 4, 1
    for downwards in (False, True):
        cells = list(ET.fromstring(heat_map(counts, "x", "y", downwards=downwards)).iter("rect"))
        assert [float(c.get("fill-opacity")) for c in cells] == [1.0, 0.5]
        high_y, low_y = (float(c.get("y")) for c in cells)
        assert (high_y > low_y) == downwards


def test_confusion_table_counts_and_shares():
    table = confusion_table(np.array([[3, 0, 1], [0, 5, 0], [1, 0, 0]]), ["<b>cat", "dog"])
    assert "&lt;b&gt;cat" in table
    assert "<b>" not in table
    assert re.findall(r"--share:([\d.]+)", table) == ["0.750", "1.000", "1.000", "0.250"]
    assert "3<small>75%</small>" in table


def test_an_interval_has_its_dot_in_the_middle_and_ends_at_its_spread():
    svg = ET.fromstring(interval_chart([Interval("first", 0.5, 0.1), Interval("a <b>", 0.3, 0.0)], "AP"))
    assert [float(dot.get("cx")) for dot in svg.iter("circle")] == [
        pytest.approx(NAMES + (WIDE - RIGHT - NAMES) * share, abs=0.06) for share in (2 / 3, 0)
    ]
    spreads = [path.get("d") for path in svg.iter("path") if path.get("class") == "spread"]
    ends = [tuple(float(x) for x in re.fullmatch(r"M(\S+) \S+H(\S+)", d).groups()) for d in spreads]
    assert ends[0] == (pytest.approx(NAMES + (WIDE - RIGHT - NAMES) / 3, abs=0.06), WIDE - RIGHT)
    assert ends[1] == (NAMES, NAMES)
    assert "a <b>" in [text.text for text in svg.iter("text")]


def test_a_drawing_of_its_own_is_a_complete_svg_file():
    svg = ET.fromstring(standalone(interval_chart([Interval("one", 1.0, 0.0)], "AP")))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.find("{http://www.w3.org/2000/svg}style") is not None
