"""Pictures and YOLO label files, read in parallel by the native module and remembered in a cache file.

The native scan takes the files that are wholly in order; `readers/yolo.py` judges the others and words the report.
Both give the same bits: `tests/data/test_labels.py` compares them.
"""

from __future__ import annotations

import hashlib
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
        sizes: n (height, width) of the upright pictures.
        unreadable: (picture, reason) of those that cannot be read.
        odd: pictures whose label file is to be read in Python.
        objects: (N,) classes, (N, 4) corners, N numbers of polygon points (0: a box), (P, 2) points.
        ends: per picture where its objects end.
        num_cached: pictures whose answer came from the cache file.
        was_damaged: the cache file was there and could not be used.
    """

    sizes: list[tuple[int, int]]
    unreadable: list[tuple[int, str]]
    odd: list[int]
    objects: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], list[int], npt.NDArray[np.float32]]
    ends: list[int]
    num_cached: int
    was_damaged: bool


def scan(images: Sequence[Path], labels: Sequence[str], class_ids: list[int] | None) -> Scan:
    """Headers of pictures and rows of their label files; classes are numbered by their place in the rising ids."""
    pictures = [(os.fspath(image), label) for image, label in zip(images, labels, strict=True)]
    file = _cache_file(pictures)
    found = Scan(*native.scan_labels(pictures, class_ids, file, min(os.cpu_count() or 1, MAX_THREADS)))
    if found.was_damaged:
        logger.warning("%s: damaged, made anew", file)
    return found


class Samples(Sequence[Sample]):
    """Samples made when they are looked at, from the arrays of a scan; `judged` are those that Python read."""

    def __init__(self, paths: Sequence[Path], scan: Scan, places: Sequence[int], judged: dict[int, Sample]) -> None:
        self._paths, self._places, self._judged = paths, places, judged
        self._classes, self._boxes, self._counts, self._points = scan.objects
        self._ends = scan.ends
        self._point_ends = np.cumsum([0, *self._counts]).tolist()

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
            path=self._paths[place],
            boxes_xyxy=self._boxes[first:end],
            classes=self._classes[first:end],
            segments=segments,
            is_crowd=np.zeros(end - first, np.bool_),
        )


def _cache_file(pictures: list[tuple[str, str]]) -> str | None:
    """Where this list of pictures is remembered; nowhere when the folder cannot be made."""
    folder = cache_folder() / "labels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    names = "\0".join(image for image, _ in pictures).encode("utf-8", "surrogateescape")
    key = hashlib.blake2b(os.fsencode(Path.cwd()) + b"\0" + names, digest_size=16).hexdigest()
    return os.fspath(folder / f"{key}.labels")
