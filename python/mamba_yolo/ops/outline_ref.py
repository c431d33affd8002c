"""Outline of a mask as a polygon on pixel edges, defined in plain Python.

Every edge between a pixel inside and one outside is a step that keeps the inside on its right; steps are chained into
loops and the loop with the largest area is the outline. Tested in tests/ops/test_outline.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Step = tuple[int, int]


def outline_ref(inside: Tensor) -> Tensor:
    """Corners x, y (k, 2) float32 of the outer outline of the largest part of a bool mask (H, W)."""
    steps = _steps(inside)
    loops = []
    while steps:
        loops.append(_loop(steps))
    if not loops:
        return torch.zeros(0, 2)
    return _corners(max(loops, key=_area))


def _steps(inside: Tensor) -> dict[Step, list[Step]]:
    """Where one can go from every corner of the pixel grid: corner (x, y) to unit moves (dx, dy)."""
    padded = torch.nn.functional.pad(inside, (1, 1, 1, 1))
    steps: dict[Step, list[Step]] = {}
    # neighbour (dx, dy) that must be outside; start corner relative to the pixel; move
    for (dx, dy), (sx, sy), move in (
        ((0, -1), (0, 0), (1, 0)),
        ((1, 0), (1, 0), (0, 1)),
        ((0, 1), (1, 1), (-1, 0)),
        ((-1, 0), (0, 1), (0, -1)),
    ):
        neighbour = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        for x, y in (inside & ~neighbour).T.nonzero().tolist():
            steps.setdefault((x + sx, y + sy), []).append(move)
    return steps


def _loop(steps: dict[Step, list[Step]]) -> list[Step]:
    """Follow steps from the first corner until it closes, and take them out."""
    start = corner = next(iter(steps))
    move: Step | None = None
    points = []
    while True:
        choices = steps[corner]
        # where two pixels touch at a corner, turn right: they belong to different parts
        turn = (-move[1], move[0]) if move is not None else None
        move = choices.pop(choices.index(turn) if turn in choices else 0)
        if not choices:
            del steps[corner]
        points.append(corner)
        corner = (corner[0] + move[0], corner[1] + move[1])
        if corner == start:
            return points


def _area(points: list[Step]) -> float:
    """Signed area; holes are negative."""
    following = [*points[1:], points[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True)) / 2


def _corners(loop: list[Step]) -> Tensor:
    """Only the points where the outline turns."""
    points = torch.tensor(loop)
    before, after = points - points.roll(1, 0), points.roll(-1, 0) - points
    return points[(before != after).any(1)].float()
