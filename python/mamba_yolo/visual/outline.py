"""Outline of a mask as a polygon on pixel edges.

Every edge between a pixel inside and one outside is a step that keeps the inside on its right; steps are chained into
loops and the loop with the largest area is the outline. Test: tests/visual/test_outline.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Step = tuple[int, int]


def outline_of(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Outer outline of the largest part of a mask.

    Args:
        inside: (H, W).

    Returns:
        (k, 2) corners x, y in pixels, clockwise on the screen; (0, 2) for an empty mask.
    """
    steps = _steps(inside)
    loops = []
    while steps:
        loops.append(_loop(steps))
    if not loops:
        return np.zeros((0, 2), np.float32)
    return _corners(max(loops, key=_area))


def _steps(inside: npt.NDArray[np.bool_]) -> dict[Step, list[Step]]:
    """Where one can go from every corner of the pixel grid: corner (x, y) to unit moves (dx, dy)."""
    padded = np.pad(inside, 1)
    steps: dict[Step, list[Step]] = {}
    # neighbour (dy, dx) that must be outside; start corner relative to the pixel; move
    for (dy, dx), (sx, sy), move in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (1, 1), (-1, 0)),
        ((0, -1), (0, 1), (0, -1)),
    ):
        neighbour = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            steps.setdefault((x + sx, y + sy), []).append(move)
    return steps


def _loop(steps: dict[Step, list[Step]]) -> npt.NDArray[np.float64]:
    """Follow steps from any corner until it closes, and take them out."""
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
            return np.array(points, np.float64)


def _area(points: npt.NDArray[np.float64]) -> float:
    """Signed area; holes are negative."""
    following = np.roll(points, -1, axis=0)
    return float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum() / 2)


def _corners(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Only the points where the outline turns."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turning = np.any(before != after, axis=1)
    corners: npt.NDArray[np.float32] = points[turning].astype(np.float32)
    return corners
