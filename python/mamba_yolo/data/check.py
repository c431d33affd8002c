"""`check_dataset`: everything that is wrong with a data set, over all its splits, without changing it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_yolo.data.dataset import open_dataset
from mamba_yolo.data.decode import decode_image
from mamba_yolo.errors import DataError, ImageError, MissingFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from mamba_yolo.data.dataset import Dataset
    from mamba_yolo.types import Sample

SPLITS = ("train", "val", "test")


@dataclass
class CheckReport:
    """What `check_dataset` found.

    Attributes:
        path: the data set.
        format: "yolo", "coco", "voc", or "" when it is none.
        names: class names by class.
        splits: per split: images, background images, boxes, masks, crowd regions, boxes per class, and sizes.
        errors: lines about what cannot be used.
        warnings: lines about what was repaired or looks wrong.
    """

    path: str
    format: str = ""
    names: dict[int, str] = field(default_factory=dict)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "path": self.path,
            "format": self.format,
            "names": {str(k): v for k, v in self.names.items()},
            "splits": self.splits,
            "errors": self.errors,
            "warnings": self.warnings,
        }


def check_dataset(path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read every split, decode every picture, and look for the same picture in two splits.

    Args:
        path: what `open_dataset` takes.
        progress: called with (pictures done, pictures in all).

    Raises:
        MissingFileError: the path does not exist.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{path}: no such file or folder")
    report = CheckReport(path=str(path))
    datasets = _open_splits(path, report)
    total = sum(len(dataset) for dataset in datasets.values())
    done = 0
    seen: dict[bytes, tuple[str, Path]] = {}
    for split, dataset in datasets.items():
        counts = report.splits[split] = _count(dataset)
        if 0 < counts["masks"] < counts["boxes"]:
            share = f"{counts['masks']} of {counts['boxes']} objects of {split}"
            report.warnings.append(f"{path}: {share} have a mask; a -seg model learns masks from those alone")
        _note_problems(dataset, report)
        for sample in dataset:
            _check_image(sample.path, split, seen, report)
            done += 1
            if progress is not None:
                progress(done, total)
    return report


def _open_splits(path: str | os.PathLike[str], report: CheckReport) -> dict[str, Dataset]:
    """The splits that are there; a data set without any is an error."""
    datasets: dict[str, Dataset] = {}
    refusals: dict[str, str] = {}
    for split in SPLITS:
        try:
            datasets[split] = open_dataset(path, split)
        except (DataError, MissingFileError) as error:
            refusals[split] = str(error)
    if not datasets or "train" not in datasets:
        report.errors.append(refusals["train"])
    if "val" not in datasets and datasets:
        report.warnings.append(refusals["val"])
    for dataset in datasets.values():
        report.format, report.names = dataset.format, report.names or dataset.names
        if dataset.names != report.names:
            report.errors.append(f"{path}: the split {dataset.split!r} has other class names than the first")
    return datasets


def _count(dataset: Dataset) -> dict[str, Any]:
    histogram = Counter(int(c) for sample in dataset for c in sample.classes[~sample.is_crowd])
    sizes = Counter(dataset.image_size(i) for i in range(len(dataset)))
    return {
        "images": len(dataset),
        "background": sum(not len(sample.classes) for sample in dataset),
        "boxes": sum(histogram.values()),
        "masks": sum(_masks_of(sample) for sample in dataset),
        "crowd": sum(int(sample.is_crowd.sum()) for sample in dataset),
        "per_class": {name: histogram[i] for i, name in dataset.names.items()},
        "sizes": {f"{width}x{height}": count for (height, width), count in sizes.most_common()},
    }


def _masks_of(sample: Sample) -> int:
    """Objects with a mask, crowds left out."""
    return sum(bool(parts) and not crowd for parts, crowd in zip(sample.segments or (), sample.is_crowd, strict=False))


def _note_problems(dataset: Dataset, report: CheckReport) -> None:
    """Left-out pictures are errors, repaired labels are warnings; each split is named once per line."""
    for problem in dataset.problems:
        lines = report.errors if "left" in problem.done else report.warnings
        lines.append(str(problem))


def _check_image(path: Path, split: str, seen: dict[bytes, tuple[str, Path]], report: CheckReport) -> None:
    try:
        decode_image(path)
        digest = hashlib.sha256(path.read_bytes()).digest()
    except (ImageError, OSError) as error:
        report.errors.append(str(error))
        return
    first_split, first = seen.setdefault(digest, (split, path))
    if first == path:
        return
    if first_split != split:
        report.warnings.append(f"{path}: the same picture is in {first_split} as {first.name}; results would flatter")
    else:
        report.warnings.append(f"{path}: the same picture as {first.name}")
