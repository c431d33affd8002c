"""Batches from Rust threads. The bytes depend on (seed, epoch, position) alone: not on threads, batches or resuming.

Training epochs are shuffled and augmented; validation keeps the order and letterboxes.
Test: `tests/data/test_loader.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mamba_yolo.augmentation import AugmentConfig
from mamba_yolo.checks import check_imgsz, check_range
from mamba_yolo.data._native import native
from mamba_yolo.data.hook import apply_hook
from mamba_yolo.errors import ConfigError, ImageError
from mamba_yolo.types import Batch, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mamba_yolo.data.dataset import Dataset
    from mamba_yolo.data.hook import Hook
    from mamba_yolo.types import Sample

STATE_SCHEMA = 1
MAX_DEFAULT_THREADS = 8
MULTI_SCALE_RANGE = 0.5  # sides of batches: imgsz * (1 ± this)
MAX_EPOCH = 2**32 - 1
MAX_SEED = 2**64 - 1


class Loader:
    """Loads a data set in batches.

    Args:
        dataset: what `open_dataset` returned.
        imgsz: side of the square pictures in pixels, a multiple of 32.
        batch_size: pictures per batch; the last one may be smaller.
        train: shuffle and augment, or keep the order and letterbox (never enlarged).
        seed: seed of order and augmentation.
        threads: Rust threads; 0 means as many as torch uses, at most 8.
        augment: how training pictures vary; `augment.mosaic` switches mosaics.
        hook: your own change of every finished training picture (see `mamba_yolo.data.hook`): called as
            `hook(image, boxes_xyxy, classes)` in the thread that takes the batches, while that thread waits. Its time
            comes on top of every step; a hook of 1 ms halves what a core can load. Polygons are left out.

    Raises:
        ConfigError: an option outside its domain, or copy-paste for a data set without polygons.
    """

    def __init__(
        self,
        dataset: Dataset,
        imgsz: int = 640,
        batch_size: int = 16,
        *,
        train: bool = True,
        seed: int = 0,
        threads: int = 0,
        augment: AugmentConfig | None = None,
        hook: Hook | None = None,
    ) -> None:
        check_imgsz(imgsz)
        check_range("batch_size", batch_size, 1, 10**6)
        check_range("seed", seed, 0, MAX_SEED)
        check_range("threads", threads, 0, 4096)
        self.dataset, self.imgsz, self.batch_size, self.train, self.seed = dataset, imgsz, batch_size, train, seed
        self.threads = threads or min(torch.get_num_threads(), MAX_DEFAULT_THREADS)
        self.augment = augment if augment is not None else AugmentConfig()
        self.hook = hook if train else None
        self._has_segments = any(any(sample.segments or ()) for sample in dataset)
        if train:
            self._ranges(self.augment)  # refuses what the data set cannot have, before anything starts
        self._pipeline = _pipeline(dataset, imgsz, batch_size)
        self._epoch, self._position = 0, 0
        self._resumes = False

    def __len__(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def epoch(self, number: int, *, augment: AugmentConfig | None = None) -> Iterator[Batch]:
        """The batches of an epoch; after `load_state_dict`, its epoch goes on where it was.

        Args:
            number: which epoch, from 0.
            augment: replaces the loader's own for this epoch (close mosaic).

        Raises:
            ImageError: a file changed since the data set was opened and cannot be read any more.
        """
        check_range("epoch", number, 0, MAX_EPOCH)
        first = self._position if self._resumes and number == self._epoch else 0
        self._resumes = False
        ranges = self._ranges(augment or self.augment) if self.train else None
        return self._batches(number, first, ranges)

    def _batches(self, number: int, first: int, ranges: tuple[float, ...] | None) -> Iterator[Batch]:
        self._epoch, self._position = number, first
        stream = self._pipeline.start(self.seed, number, first, ranges, self.threads)
        position = first
        try:
            while (arrays := _next(stream)) is not None:
                position += len(arrays[0])
                self._epoch, self._position = number, position
                yield self._to_batch(arrays)
        finally:
            stream.stop()
        self._epoch, self._position = number + 1, 0

    def _to_batch(self, arrays: tuple[Any, ...]) -> Batch:
        """Torch tensors on the same memory, changed by the hook where there is one."""
        images, boxes, classes, owners, samples, letterbox = map(torch.from_numpy, arrays[:6])
        batch = Batch(images, boxes, classes, owners, samples, letterbox)
        if self.hook is not None:
            return apply_hook(self.hook, batch)
        if self._has_segments:
            return batch._replace(segments=Segments(*map(torch.from_numpy, arrays[6])))
        return batch

    def _ranges(self, augment: AugmentConfig) -> tuple[float, ...]:
        """The numbers of a config in the order the native module takes them."""
        if augment.copy_paste and not self._has_segments:
            raise ConfigError(f"copy_paste={augment.copy_paste} needs polygons, and {self.dataset!r} has none; use 0")
        values = dataclasses.astuple(augment)
        return (*values[:-1], MULTI_SCALE_RANGE if augment.multi_scale else 0.0)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: the next position of the running epoch."""
        return {"schema": STATE_SCHEMA, "seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader of the same data set was."""
        if state.get("schema") != STATE_SCHEMA:
            raise ConfigError(f"loader state has schema {state.get('schema')!r}, expected {STATE_SCHEMA}")
        if not 0 <= state["position"] <= len(self.dataset):
            raise ConfigError(f"loader state is at position {state['position']} of {len(self.dataset)} samples")
        self.seed, self._epoch, self._position = state["seed"], state["epoch"], state["position"]
        self._resumes = True


def _pipeline(dataset: Dataset, imgsz: int, batch_size: int) -> Any:
    """The native pipeline over the data set; crowd regions are left out."""
    keep = [~sample.is_crowd for sample in dataset]
    boxes = [sample.boxes_xyxy[k] for sample, k in zip(dataset, keep, strict=True)]
    classes = [sample.classes[k] for sample, k in zip(dataset, keep, strict=True)]
    polygons = [p for sample, k in zip(dataset, keep, strict=True) for p in _polygons(sample, k)]
    offsets = np.cumsum([0, *(len(c) for c in classes)]).tolist()
    return native.Pipeline(
        [os.fspath(sample.path) for sample in dataset],
        np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
        np.concatenate([np.zeros(0, np.int64), *classes]),
        offsets,
        _flat(polygons),
        imgsz,
        batch_size,
    )


def _polygons(sample: Sample, keep: npt.NDArray[np.bool_]) -> list[list[npt.NDArray[np.float32]]]:
    """The polygons of the boxes that are kept; none where the sample has boxes only."""
    if sample.segments is None:
        return [[] for _ in range(int(keep.sum()))]
    return [polygons for polygons, kept in zip(sample.segments, keep, strict=True) if kept]


def _flat(polygons: list[list[npt.NDArray[np.float32]]]) -> tuple[npt.NDArray[np.float32], list[int], list[int]]:
    """Points, where each polygon begins, where each box's polygons begin; both with the end."""
    rings = [ring for of_box in polygons for ring in of_box]
    points = np.concatenate([np.zeros((0, 2), np.float32), *rings])
    lengths, counts = (len(ring) for ring in rings), (len(of_box) for of_box in polygons)
    return points, [0, *itertools.accumulate(lengths)], [0, *itertools.accumulate(counts)]


def _next(stream: Any) -> Any:
    try:
        return stream.next()
    except OSError as error:
        raise ImageError(str(error)) from None
