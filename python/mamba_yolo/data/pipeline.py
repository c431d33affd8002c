"""From a data set and a loader's settings to the native pipeline, and the room that its cache needs.

Test: `tests/data/test_loader_cache.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mamba_yolo.data._native import native
from mamba_yolo.data.space import available_memory, check_disk, check_ram
from mamba_yolo.errors import ConfigError
from mamba_yolo.folders import cache_folder

if TYPE_CHECKING:
    import numpy.typing as npt

    from mamba_yolo.data.loader import Loader
    from mamba_yolo.types import Sample


def make_pipeline(loader: Loader) -> Any:
    """The native pipeline over the loader's data set; crowd regions are left out.

    Raises:
        ConfigError: the cache does not fit into its share of memory or disk space, or its folder cannot be written.
    """
    dataset = loader.dataset
    sizes = [dataset.image_size(i) for i in range(len(dataset))]
    keep = [~sample.is_crowd for sample in dataset]
    boxes = [sample.boxes_xyxy[k] for sample, k in zip(dataset, keep, strict=True)]
    classes = [sample.classes[k] for sample, k in zip(dataset, keep, strict=True)]
    polygons = [p for sample, k in zip(dataset, keep, strict=True) for p in _polygons(sample, k)]
    rows = (
        [os.fspath(sample.path) for sample in dataset],
        sizes,
        np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
        np.concatenate([np.zeros(0, np.int64), *classes]),
        np.cumsum([0, *(len(c) for c in classes)]).tolist(),
        _flat(polygons),
    )
    kind = "train" if loader.train else "rect" if loader.rect else "square"
    return native.Pipeline(
        rows,
        loader.imgsz,
        loader.batch_size,
        kind=kind,
        partners=loader.partners,
        keep=_place(loader, rows[0], sizes),
        as_floats=loader.dtype == "float32" and loader.hook is None,
        masks=loader.masks,
        skip=loader.on_error == "skip",
        shard=(loader.rank, loader.world_size),
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


def _place(loader: Loader, paths: list[str], sizes: list[tuple[int, int]]) -> str | None:
    """Where decoded pictures are kept: "ram", a cache file, or nowhere."""
    needed = _num_bytes(sizes, loader.imgsz, enlarge=loader.train)
    if loader.cache == "ram":
        check_ram(needed, available_memory())
        return "ram"
    if loader.cache == "disk":
        return os.fspath(_cache_file(loader, paths, sizes, needed))
    return None


def _num_bytes(sizes: list[tuple[int, int]], side: int, *, enlarge: bool) -> int:
    """Bytes of all pictures with their longer side at `side`."""
    shapes = np.array(sizes, np.float64).reshape(-1, 2)
    gain = side / shapes.max(axis=1, initial=1)
    if not enlarge:
        gain = np.minimum(gain, 1)
    return int((np.ceil(shapes * gain[:, None]).prod(axis=1) * 3).sum())


def _cache_file(loader: Loader, paths: list[str], sizes: list[tuple[int, int]], needed: int) -> Path:
    """The file of this data set at these settings; one that exists has its room already."""
    folder = cache_folder() / "tiles"
    key = repr((1, loader.imgsz, loader.train, [os.fspath(Path(path).absolute()) for path in paths], sizes))
    file = folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.tiles"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            check_disk(needed, folder)
            file.touch()
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; set MAMBA_YOLO_CACHE to a writable folder") from None
    return file
