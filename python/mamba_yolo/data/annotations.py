"""What every reader hands over, and the one place where boxes are judged: clipped, dropped, reported.

Pixels lie on a grid of 2^-16: values that a format can only carry to 1e-12 come back to the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mamba_yolo.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

GRID = 65536.0  # steps per pixel
REPORTED_OVERHANG = 0.01  # of the side: less is rounding in the label file and is clipped without a word

Polygon = list[tuple[float, float]]


class Problem(NamedTuple):
    """A fault of a data set and what was done about it."""

    path: str
    where: str
    what: str
    done: str

    def __str__(self) -> str:
        """One line."""
        place = f"{self.path}:{self.where}" if self.where else self.path
        return f"{place}: {self.what}; {self.done}"


class Annotation(NamedTuple):
    """One object as a reader found it, in pixels of the upright picture, not yet judged."""

    where: str
    class_id: int
    box_xyxy: tuple[float, float, float, float]
    polygons: list[Polygon] | None = None
    is_crowd: bool = False


class Reading(NamedTuple):
    """What a reader found in one split."""

    names: dict[int, str]
    samples: Sequence[Sample]
    sizes: list[tuple[int, int]]
    problems: list[Problem]


def to_sample(
    path: Path, size: tuple[int, int], source: Path, found: Sequence[Annotation], problems: list[Problem]
) -> Sample:
    """Judge the objects of one picture of (height, width) `size` annotated in `source`."""
    kept: list[Annotation] = []
    seen: set[tuple[int, tuple[float, float, float, float], bool]] = set()
    for item in found:
        box = _clipped(item, size, source, problems)
        if box is None:
            continue
        key = (item.class_id, box, item.is_crowd)
        if key in seen:
            problems.append(Problem(str(source), item.where, "the same object twice", "kept once"))
            continue
        seen.add(key)
        kept.append(item._replace(box_xyxy=box))
    has_segments = any(item.polygons is not None for item in kept)
    return Sample(
        path=path,
        boxes_xyxy=np.array([item.box_xyxy for item in kept], np.float32).reshape(-1, 4),
        classes=np.array([item.class_id for item in kept], np.int64),
        segments=[_segments(item, size) for item in kept] if has_segments else None,
        is_crowd=np.array([item.is_crowd for item in kept], np.bool_),
    )


def on_grid(value: float) -> float:
    """The nearest multiple of 2^-16, as float32 holds it."""
    return float(np.float32(round(value * GRID) / GRID))


def _clipped(
    item: Annotation, size: tuple[int, int], source: Path, problems: list[Problem]
) -> tuple[float, float, float, float] | None:
    """The box within the picture, or None when nothing is left; faults go into the table."""

    def report(what: str, done: str) -> None:
        problems.append(Problem(str(source), item.where, what, done))

    if not all(math.isfinite(value) for value in item.box_xyxy):
        report("a coordinate is not a finite number", "dropped the object")
        return None
    height, width = size
    x1, y1, x2, y2 = item.box_xyxy
    overhang = max(-x1 / width, -y1 / height, x2 / width - 1, y2 / height - 1)
    clipped = (
        on_grid(min(max(x1, 0), width)),
        on_grid(min(max(y1, 0), height)),
        on_grid(min(max(x2, 0), width)),
        on_grid(min(max(y2, 0), height)),
    )
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        outside = x2 > x1 and y2 > y1
        report("the box lies outside the picture" if outside else "the box has no area", "dropped the object")
        return None
    if overhang > REPORTED_OVERHANG:
        report(f"the box reaches {overhang:.0%} beyond the picture", "clipped it")
    return clipped


def _segments(item: Annotation, size: tuple[int, int]) -> list[npt.NDArray[np.float32]]:
    """Polygons within the picture; none for an object that has only a box."""
    limit = np.array([size[1], size[0]], np.float64)
    arrays = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in item.polygons or []]
    return [(np.round(np.clip(a, 0, limit) * GRID) / GRID).astype(np.float32) for a in arrays]
