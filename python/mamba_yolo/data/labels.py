"""Pictures and YOLO label files, read in parallel by the native module and remembered in a cache file.

The native scan takes the files that are wholly in order; `readers/yolo.py` judges the others and words the report.
Both give the same bits: `tests/data/test_labels.py` compares them.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from mamba_yolo.data._native import native
from mamba_yolo.folders import cache_folder
from mamba_yolo.types import Sample

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_THREADS = 8
logger = logging.getLogger("mamba_yolo")


class Scan(NamedTuple):
    """What the native module found; n pictures, N objects.

    Attributes:
        names: n pictures once each, in the order of samples.
        sizes: n (height, width) of the upright pictures.
        ends: per picture where its objects end.
        unreadable: (picture, reason) of those that cannot be read.
        odd: (picture, label file) where the file is to be read in Python.
        shared: (picture, earlier picture) that have one label file.
        orphans: label files of no picture, beside the others.
        objects: (N,) classes, (N, 4) corners, (N,) numbers of polygon points (0: a box), (P, 2) points.
        num_cached: pictures whose answer came from the cache file.
    """

    names: list[str]
    sizes: list[tuple[int, int]]
    ends: list[int]
    unreadable: list[tuple[int, str]]
    odd: list[tuple[int, str]]
    shared: list[tuple[int, int]]
    orphans: list[str]
    objects: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.uint32], npt.NDArray[np.float32]]
    num_cached: int


def scan(images: Sequence[str], class_ids: list[int] | None) -> Scan:
    """Headers of pictures and rows of their label files; classes are numbered by their place in the rising ids."""
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pictures, faults, objects, num_cached = native.scan_labels(images, class_ids, _folder(), threads)
    unreadable, odd, shared, orphans, damaged = faults
    if damaged is not None:
        logger.warning("%s: damaged, made anew", damaged)
    return Scan(*pictures, unreadable, odd, shared, orphans, objects, num_cached)


class Samples(Sequence[Sample]):
    """Samples made when they are looked at, from the arrays of a scan; `judged` are those that Python read."""

    def __init__(self, scan: Scan, places: Sequence[int], judged: dict[int, Sample]) -> None:
        self._names, self._places, self._judged = scan.names, places, judged
        self._classes, self._boxes, self._counts, self._points = scan.objects
        self._ends = scan.ends
        self._point_ends = np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)])

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """The sample at a position."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self._places[index]
        if place in self._judged:
            return self._judged[place]
        first, end = self._ends[place - 1] if place else 0, self._ends[place]
        segments = None
        if first < end and self._counts[first]:
            ends = self._point_ends[first : end + 1]
            segments = [[self._points[a:b]] for a, b in itertools.pairwise(ends)]
        return Sample(
            path=Path(self._names[place]),
            boxes_xyxy=self._boxes[first:end],
            classes=self._classes[first:end],
            segments=segments,
            is_crowd=np.zeros(end - first, np.bool_),
        )


def _folder() -> Path | None:
    """Where what was found is remembered; nowhere when the folder cannot be made."""
    folder = cache_folder() / "labels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder
