"""Polygons of a mask along pixel edges, defined in plain Python.

Every edge between a pixel inside and one outside is a step that keeps the inside on its right; where two pixels touch
at a corner the loop turns right, so they belong to different parts. A hole is joined to the loop above it by a vertical
cut of no width. Tested in tests/ops/test_rings.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Corner = tuple[int, int]  # x, y
Step = tuple[Corner, Corner]


def polygons_of(mask_HW: Tensor) -> list[list[Corner]]:
    """Corners of each part, clockwise on the screen, through its holes."""
    inside = {(x, y) for y, x in mask_HW.nonzero().tolist()}
    parts: list[list[Step]] = []
    holes: dict[Step, list[list[Step]]] = {}  # by the top edge above them
    seen: set[Step] = set()
    for y, x in sorted({(y + down, x) for x, y in inside for down in (0, 1)}):
        right, left = ((x, y), (x + 1, y)), ((x + 1, y), (x, y))
        if (x, y) in inside and (x, y - 1) not in inside and right not in seen:
            parts.append(_loop(right, inside, seen))
        if (x, y) not in inside and (x, y - 1) in inside and left not in seen:
            top = y - 1
            while (x, top - 1) in inside:
                top -= 1
            holes.setdefault(((x, top), (x + 1, top)), []).append(_loop(left, inside, seen))
    return [_corners(_walk(part, holes)) for part in parts]


def _loop(first: Step, inside: set[Corner], seen: set[Step]) -> list[Step]:
    """Steps from this one until it comes again."""
    loop = [first]
    while True:
        (x0, y0), (x, y) = loop[-1]
        dx, dy = x - x0, y - y0
        for ax, ay in ((-dy, dx), (dx, dy), (dy, -dx)):  # right, straight on, left
            # the pixels on the right and on the left of a step
            on_right = (x + (ax - ay - 1) // 2, y + (ay + ax - 1) // 2)
            on_left = (x + (ax + ay - 1) // 2, y + (ay - ax - 1) // 2)
            if on_right in inside and on_left not in inside:
                break
        step = ((x, y), (x + ax, y + ay))
        if step == first:
            seen.update(loop)
            return loop
        loop.append(step)


def _walk(loop: list[Step], holes: dict[Step, list[list[Step]]]) -> list[Corner]:
    """Corners of a loop, first one again at the end, with the holes below it."""
    corners = [loop[0][0]]
    for step in loop:
        corners.append(step[1])
        for hole in holes.get(step, []):
            corners += [*_walk(hole, holes), step[1]]
    return corners


def _corners(closed: list[Corner]) -> list[Corner]:
    """Only the corners where the way turns."""
    ring: list[Corner] = []
    for corner in closed:
        while len(ring) > 1 and _is_between(ring[-2], ring[-1], corner):
            ring.pop()
        ring.append(corner)
    return ring[:-1]


def _is_between(a: Corner, b: Corner, c: Corner) -> bool:
    """Whether b lies on the straight way from a to c."""
    return any(a[i] == b[i] == c[i] and (a[1 - i] <= b[1 - i] <= c[1 - i] or a[1 - i] >= b[1 - i] >= c[1 - i])
               for i in (0, 1))  # fmt: skip
