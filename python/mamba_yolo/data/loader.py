"""Batches from Rust threads. The bytes depend on (seed, epoch, position) alone: not on threads, ranks or resuming.

Training epochs are shuffled and augmented; validation keeps the order and letterboxes. Rank r of n gets the batches
r, r + n, r + 2n, … of the epoch that one loader would give. Test: `tests/data/test_loader*.py`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info

from mamba_yolo.augmentation import AugmentConfig
from mamba_yolo.checks import check_imgsz, check_range
from mamba_yolo.data.feed import Feed
from mamba_yolo.data.hook import apply_hook
from mamba_yolo.data.pipeline import make_pipeline
from mamba_yolo.errors import ConfigError, DataError
from mamba_yolo.types import Batch, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mamba_yolo.config import Partners
    from mamba_yolo.data.dataset import Dataset
    from mamba_yolo.data.hook import Hook

STATE_SCHEMA = 3  # 1 drew fewer numbers, and the partners of the first mosaics from elsewhere, as did 2 in epoch 0
MAX_DEFAULT_THREADS = 8
MULTI_SCALE_RANGE = 0.5  # sides of batches: imgsz * (1 ± this)
MAX_EPOCH = 2**32 - 1
MAX_SEED = 2**64 - 1

Ranges = tuple[float, ...]


class Loader(IterableDataset[Batch]):
    """Loads a data set in batches; iterating gives the next epoch, `epoch` a certain one.

    Also an `IterableDataset`: `DataLoader(loader, batch_size=None, num_workers=n)` gives the same batches in the same
    order, the epoch set by `set_epoch`. It needs no workers, though: the threads are its own.

    Args:
        dataset: what `open_dataset` returned.
        imgsz: side of the square pictures in pixels, a multiple of 32.
        batch_size: pictures per batch; the last one may be smaller.
        train: shuffle and augment, or keep the order and letterbox.
        seed: seed of order and augmentation.
        threads: Rust threads; 0 means as many as torch uses, at most 8.
        augment: how training pictures vary; `augment.mosaic` switches mosaics.
        close_epoch: from this epoch on without mosaic, mixup, cutmix and copy-paste.
        hook: your own change of every finished training picture (see `mamba_yolo.data.hook`): called as
            `hook(image, boxes_xyxy, classes)` in the thread that takes the batches, while that thread waits. Its time
            comes on top of every step; a hook of 1 ms halves what a core can load. Polygons are left out.
        cache: keep decoded pictures in memory ("ram") or in a file below MAMBA_YOLO_CACHE ("disk"); the bytes are the
            same. Either may take half of the memory or disk space that is available.
        partners: where the other pictures of a mosaic come from: "recent", the latest positions, so that each picture
            is decoded once; or "uniform", all of the epoch, for those who keep all pictures in a cache.
        rect: validation batches sorted by aspect ratio, as small as their pictures allow (multiples of 32).
        rank: which of `world_size` loaders this is; all need the same other arguments. Ranks may differ by one batch.
        world_size: how many loaders share each epoch.
        dtype: "uint8", or "float32" for values divided by 255.
        pin_memory: images in page-locked memory, for copies to a GPU that do not wait: the threads fill it themselves.
            Without CUDA it does nothing.
        masks: also draw the mask of every object at a quarter of the side (`Batch.masks`); objects that have a box
            only, or no pixel centre inside, have an empty one.
        on_error: what to do about a file that cannot be read any more: "raise", or "skip" and take the next readable
            sample in its place (see `skipped`).

    Raises:
        ConfigError: an option outside its domain, copy-paste for a data set without outlines, masks with a hook,
            uniform partners without a cache, or a cache without room.
        DataError: masks of a data set that has none.
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
        close_epoch: int | None = None,
        hook: Hook | None = None,
        cache: Literal[False, "off", "ram", "disk"] = False,
        partners: Partners = "recent",
        rect: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dtype: Literal["uint8", "float32"] = "uint8",
        pin_memory: bool = False,
        masks: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        check_imgsz(imgsz)
        check_range("batch_size", batch_size, 1, 10**6)
        check_range("seed", seed, 0, MAX_SEED)
        check_range("threads", threads, 0, 4096)
        check_range("world_size", world_size, 1, 10**6)
        check_range("rank", rank, 0, world_size - 1)
        if close_epoch is not None:
            check_range("close_epoch", close_epoch, 0, MAX_EPOCH)
        _check_choice("cache", cache, (False, "off", "ram", "disk"))
        _check_choice("partners", partners, ("recent", "uniform"))
        _check_choice("dtype", dtype, ("uint8", "float32"))
        _check_choice("on_error", on_error, ("raise", "skip"))
        if partners == "uniform" and cache in (False, "off"):
            raise ConfigError("partners='uniform' decodes four pictures for one; use cache='ram' or 'disk'")
        if masks and hook is not None:
            raise ConfigError("a hook cannot change masks: train without the hook, or a model without masks")
        if rect and train:
            raise ConfigError("rect is for validation: training pictures are square; drop rect or set train=False")
        self.dataset, self.imgsz, self.batch_size, self.train, self.seed = dataset, imgsz, batch_size, train, seed
        self.threads = threads or min(torch.get_num_threads(), MAX_DEFAULT_THREADS)
        self.augment = augment if augment is not None else AugmentConfig()
        self.close_epoch = close_epoch
        self.hook = hook if train else None
        self._has_segments = any(any(sample.segments or ()) for sample in dataset)
        if masks and not self._has_segments:
            raise DataError(
                f"{dataset!r} has boxes only, and a -seg model learns from masks; give polygons or run-length masks, "
                "or take a model without -seg"
            )
        self.masks = masks
        self._ranges()  # refuses what the data set cannot have, before anything starts
        self.cache: Literal["off", "ram", "disk"] = cache or "off"
        self.partners = partners
        self.rect, self.rank, self.world_size, self.dtype = rect, rank, world_size, dtype
        self.pin_memory, self.on_error = pin_memory, on_error
        self._epoch, self._position = 0, 0
        self._resumes = False
        self._ahead: dict[tuple[Any, ...], Feed] = {}  # a stream that already fills batches, by what comes out of it
        self._native: tuple[int, Any] = (os.getpid(), make_pipeline(self))

    def __len__(self) -> int:
        """Batches per epoch of this rank."""
        return max(math.ceil((math.ceil(len(self.dataset) / self.batch_size) - self.rank) / self.world_size), 0)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch; in a worker of a `DataLoader`, that worker's share of them."""
        worker = get_worker_info()
        if worker is not None:
            share = self.__getstate__()
            share.update(rank=self.rank * worker.num_workers + worker.id, threads=1)
            share.update(world_size=self.world_size * worker.num_workers)
            part = Loader.__new__(Loader)
            part.__setstate__(share)
            return part.epoch(self._epoch)
        return self.epoch(self._epoch)

    def set_epoch(self, number: int) -> None:
        """Let the next iteration be this epoch, from its start."""
        check_range("epoch", number, 0, MAX_EPOCH)
        self._epoch, self._position, self._resumes = number, 0, False

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch; after `load_state_dict`, its epoch goes on where it was.

        Args:
            number: which epoch, from 0.

        Raises:
            ImageError: a file changed since the data set was opened and cannot be read any more.
        """
        check_range("epoch", number, 0, MAX_EPOCH)
        first = self._position if self._resumes and number == self._epoch else 0
        self._resumes = False
        return self._batches(number, first)

    @property
    def skipped(self) -> dict[Path, str]:
        """Files that could not be read and were replaced (`on_error="skip"`), and why."""
        return {self.dataset[sample].path: reason for sample, reason in self._pipeline().skipped()}

    def _batches(self, number: int, first: int) -> Iterator[Batch]:
        self._epoch, self._position = number, first
        ranges, step, end = self._ranges(), self.batch_size * self.world_size, len(self.dataset)
        process, position, is_last = 0, first, False
        stream: Feed | None = None
        try:
            for start in range(first + self.rank * self.batch_size, end, step):
                if stream is None or process != os.getpid():  # or forked, and the threads stayed with the parent
                    process, stream = os.getpid(), self._start(number, position, ranges)
                images, arrays = stream.next()
                position = min(position + step, end)
                self._epoch, self._position = number, position
                is_last = start + step >= end
                if is_last and self.train:  # the threads are at the next epoch already
                    self._ahead = {self._what(number + 1, 0, ranges): stream}
                yield self._to_batch(images, arrays)
        finally:
            if stream is not None and not is_last:
                stream.stop()
        self._epoch, self._position = number + 1, 0

    def _ranges(self) -> Ranges | None:
        """The numbers of the config in the order the native module takes them; none for validation."""
        if not self.train:
            return None
        if self.augment.copy_paste and not self._has_segments:
            raise ConfigError(
                f"copy_paste={self.augment.copy_paste} needs polygons or masks, and {self.dataset!r} has none; use 0"
            )
        values = dataclasses.astuple(self.augment)
        return (*values[:-1], MULTI_SCALE_RANGE if self.augment.multi_scale else 0.0)

    def _what(self, number: int, first: int, ranges: Ranges | None) -> tuple[Any, ...]:
        """All that tells one stream from another."""
        return (os.getpid(), self.seed, (number, first), ranges, self.close_epoch, self.threads)

    def _start(self, number: int, first: int, ranges: Ranges | None) -> Feed:
        """Threads at work on an epoch: those that went on from the one before, when it is theirs."""
        what = self._what(number, first, ranges)
        stream = self._ahead.pop(what, None)
        self._ahead = {}  # another stream is dropped, and ends
        if stream is None:
            pins = self._pins
            stream = Feed(self._pipeline().start(*what[1:], lends=pins), self._block if pins else None)
        return stream

    @property
    def _pins(self) -> bool:
        return self.pin_memory and torch.cuda.is_available()

    def _block(self, num_values: int) -> torch.Tensor:
        """Memory for a batch as the threads fill it: a hook works on bytes."""
        return self._empty(num_values, torch.uint8 if self.hook is not None else getattr(torch, self.dtype))

    def _empty(self, num_values: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(num_values, dtype=dtype, pin_memory=self._pins)

    def _pipeline(self) -> Any:
        """The native pipeline of this process; a forked child makes its own."""
        if self._native[0] != os.getpid():
            self._native = (os.getpid(), make_pipeline(self))
        return self._native[1]

    def _to_batch(self, images: torch.Tensor, arrays: tuple[Any, ...]) -> Batch:
        """Torch tensors on the same memory, changed by the hook where there is one."""
        boxes, classes, owners, samples, letterbox = map(torch.from_numpy, arrays[1:6])
        batch = Batch(images, boxes, classes, owners, samples, letterbox)
        if self.hook is not None:
            batch = apply_hook(self.hook, batch)
        elif self._has_segments:
            batch = batch._replace(segments=Segments(*map(torch.from_numpy, arrays[6])))
        if self.masks:
            batch = batch._replace(masks=torch.from_numpy(arrays[7]).squeeze(1))
        if self.dtype == "float32" and self.hook is not None:
            values = self._empty(images.numel(), torch.float32).view(images.shape)
            batch = batch._replace(images=torch.div(batch.images, 255, out=values))
        return batch

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: the next position of the running epoch, the same on every rank after as many batches."""
        return {"schema": STATE_SCHEMA, "seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader of the same data set was, with any number of ranks."""
        if state.get("schema") != STATE_SCHEMA:
            raise ConfigError(f"loader state has schema {state.get('schema')!r}, expected {STATE_SCHEMA}")
        if not 0 <= state["position"] <= len(self.dataset):
            raise ConfigError(f"loader state is at position {state['position']} of {len(self.dataset)} samples")
        self.seed, self._epoch, self._position = state["seed"], state["epoch"], state["position"]
        self._resumes = True

    def __getstate__(self) -> dict[str, Any]:
        """All but the threads and the native pipeline, which the receiver makes anew."""
        return {**self.__dict__, "_native": None, "_ahead": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As `__getstate__` left it."""
        self.__dict__.update(state)
        self._native = (os.getpid(), make_pipeline(self))


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
