"""Run lengths and polygons of COCO, defined in plain Python and torch.

The rules are those of pycocotools' `mask` (BSD): runs go down the columns, the first one outside; the text holds groups
of five bits, lowest first, with the difference to the run before the last from the fourth run on; the outline of a
polygon is drawn five times finer, and columns change where it passes their middle. Tested in tests/ops/test_masks.py.

Legend: H rows, W columns of a mask, k points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from mamba_yolo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FINE = 5  # steps of an outline per pixel
FURTHEST = 65_536.0  # pixels; coordinates beyond are damaged data


def runs_of(columns_WH: Tensor) -> list[int]:
    """Runs of a mask of 0 and 1, column by column."""
    values = columns_WH.flatten()
    inside = torch.cat([values.new_zeros(1), values])
    changes = inside.diff().nonzero().flatten().tolist()
    return [b - a for a, b in zip([0, *changes], [*changes, len(values)], strict=True)]


def columns_of(runs: list[int], height: int, width: int) -> Tensor:
    """The mask (W, H) of runs that fill it."""
    inside = torch.arange(len(runs)) % 2
    return inside.to(torch.uint8).repeat_interleave(torch.tensor(runs, dtype=torch.int64)).reshape(width, height)


def text_of(runs: list[int]) -> str:
    """Compressed form."""
    text = ""
    for i, run in enumerate(runs):
        rest = run - (runs[i - 2] if i > 2 else 0)
        while True:
            group, rest = rest & 31, rest >> 5
            if rest == (-1 if group & 16 else 0):
                text += chr(48 + group)
                break
            text += chr(48 + group + 32)
    return text


def runs_from_text(text: str) -> list[int]:
    """Runs of the compressed form; DataError for anything else."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise DataError(f"damaged RLE: character {ord(character)} is not part of one")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            value += runs[-2] if len(runs) > 2 else 0
            if not 0 <= value < 2**32:
                raise DataError("damaged RLE: a run is negative or too long")
            runs.append(value)
            value = shift = 0
        elif shift == 35:
            raise DataError("damaged RLE: a number has too many characters")
    if shift:
        raise DataError("damaged RLE: it ends within a number")
    return runs


def runs_of_polygon(points_k2: Tensor, height: int, width: int) -> list[int]:
    """Runs of a polygon of x, y in pixels."""
    if not bool((points_k2.abs() <= FURTHEST).all()):
        raise DataError(f"a polygon has a point beyond {FURTHEST} pixels or one that is not finite")
    fine = (points_k2 * FINE + 0.5).long().tolist()
    outline = [point for a, b in zip(fine, [*fine[1:], fine[0]], strict=True) for point in _edge(a, b)]
    starts = []
    for (u0, v0), (u, v) in pairwise(outline):
        x = u if u < u0 else u - 1
        if u != u0 and x >= 0 and x % FINE == FINE // 2 and x // FINE < width:
            y = (min(v, v0) + 0.5) / FINE - 0.5
            starts.append(x // FINE * height + int(-(-min(max(y, 0), height) // 1)))
    starts = sorted([*starts, height * width])
    runs = [starts[0]]
    differences = iter([b - a for a, b in pairwise(starts)])
    for run in differences:
        if run > 0:
            runs.append(run)
        else:  # crossings in one place cancel
            runs[-1] += next(differences, 0)
    return runs


def _edge(start: list[int], end: list[int]) -> list[tuple[int, int]]:
    """Points from start to end, one for each step along the longer direction."""
    long = 0 if abs(end[0] - start[0]) >= abs(end[1] - start[1]) else 1
    low, high = (end, start) if start[long] > end[long] else (start, end)
    steps = high[long] - low[long]
    slope = (high[1 - long] - low[1 - long]) / max(steps, 1)
    points = []
    for t in range(steps + 1):
        along, across = low[long] + t, int(low[1 - long] + slope * t + 0.5)
        points.append((along, across) if long == 0 else (across, along))
    return points if low is start else points[::-1]
