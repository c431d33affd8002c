"""A data set: photographs and what is known about them. `open_dataset` finds out the format by looking.

Samples are sorted by file stem in every format. Nothing is decoded, executed, unpickled or written.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mamba_yolo.data._native import native
from mamba_yolo.data.readers import coco, voc, yolo
from mamba_yolo.data.readers.files import images_below, read_text, split_names
from mamba_yolo.errors import DataError, MissingFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from mamba_yolo.data.annotations import Problem, Reading
    from mamba_yolo.types import Sample

Format = Literal["yolo", "coco", "voc"]
YAML_SUFFIXES = (".yaml", ".yml")


class Dataset:
    """One split of a data set; a sequence of `Sample`.

    Attributes:
        names: class names by class, 0..nc-1.
        problems: faults found, and what was done about each.
        root: the path it was opened from.
        split: which split.
        format: "yolo", "coco" or "voc".
    """

    def __init__(self, reading: Reading, *, root: Path, split: str, format: Format) -> None:
        self.names: dict[int, str] = reading.names
        self.problems: list[Problem] = reading.problems
        self.root = root
        self.split = split
        self.format: Format = format
        self._samples = reading.samples
        self._sizes = reading.sizes

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position."""
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        """All samples in order."""
        return iter(self._samples)

    def __repr__(self) -> str:
        """Format, split and counts."""
        boxes = sum(len(s.classes) for s in self._samples)
        return f"Dataset({self.format}, {self.split}: {len(self)} images, {boxes} boxes, {len(self.names)} classes)"

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self._sizes[index]


class Found(NamedTuple):
    """A recognised data set: its format, and how to read its split."""

    format: Format
    read: Callable[[], Reading]


def open_dataset(path: str | os.PathLike[str], split: str = "train") -> Dataset:
    """Open a split of a YOLO, COCO JSON or Pascal VOC data set.

    Args:
        path: data.yaml, an annotation file, or the data set's folder.
        split: "train", "val" (or "valid", "validation"), "test", or another name the data set has.

    Raises:
        MissingFileError: the path, or a folder it names, does not exist.
        DataError: not a data set, no such split, no pictures; or a training split without a single label.
    """
    place = Path(path)
    if not place.exists():
        raise MissingFileError(f"{place}: no such file or folder")
    found = _recognise(place, split)
    dataset = Dataset(found.read(), root=place, split=split, format=found.format)
    if not len(dataset):
        detail = f" ({dataset.problems[0]})" if dataset.problems else ""
        raise DataError(f"{place}: the split {split!r} has no pictures that can be read{detail}")
    if split == "train" and not any(len(sample.classes) for sample in dataset):
        detail = f"; {len(dataset.problems)} problems, the first: {dataset.problems[0]}" if dataset.problems else ""
        raise DataError(f"{place}: the split 'train' has {len(dataset)} pictures and not a single label{detail}")
    return dataset


def _recognise(place: Path, split: str) -> Found:
    if place.is_dir():
        return _recognise_folder(place, split)
    if place.suffix.lower() in YAML_SUFFIXES:
        return Found("yolo", partial(yolo.read_yaml, place, split))
    if place.suffix.lower() == ".json":
        file = _json_of_split(place, split)
        return Found("coco", partial(coco.read, file, split))
    raise DataError(f"{place}: not a data set; give a data.yaml, a COCO .json file or a folder")


def _recognise_folder(root: Path, split: str) -> Found:
    """The first layout that fits, from the most to the least explicit."""
    for look in (_find_yaml, _find_voc, _find_coco, _find_flat_voc, _find_yolo_folder):
        found = look(root, split)
        if found is not None:
            return found
    if not any(root.iterdir()):
        raise DataError(f"{root}: the folder is empty")
    raise DataError(
        f"{root}: no data set of split {split!r} found; expected data.yaml, Annotations/ with JPEGImages/, "
        "COCO .json files, or images/ with labels/"
    )


def _find_yaml(root: Path, split: str) -> Found | None:
    files = sorted(f for f in root.iterdir() if f.suffix.lower() in YAML_SUFFIXES)
    named = [f for f in files if f.stem in ("data", "dataset")]
    chosen = named[:1] or files
    if len(chosen) > 1:
        raise DataError(f"{root}: several YAML files ({', '.join(f.name for f in chosen)}); give the one you mean")
    return Found("yolo", partial(yolo.read_yaml, chosen[0], split)) if chosen else None


def _find_voc(root: Path, split: str) -> Found | None:
    kit = voc.find_root(root)
    return Found("voc", partial(voc.read_standard, kit, split_names(split))) if kit else None


def _find_coco(root: Path, split: str) -> Found | None:
    for name in split_names(split):
        for folder in (root / name, root / "annotations", root):
            patterns = ["_annotations.coco.json"] if folder == root / name else [f"instances_{name}.json"]
            patterns += [f"instances_{name}2*.json", f"{name}.json", f"*_{name}.json"]
            files = [f for pattern in patterns for f in sorted(folder.glob(pattern))]
            if files:
                return Found("coco", partial(coco.read, files[0], split))
    alone = root / "_annotations.coco.json"
    return Found("coco", partial(coco.read, alone, split)) if alone.is_file() else None


def _find_flat_voc(root: Path, split: str) -> Found | None:
    for folder in (*(root / name for name in split_names(split)), root):
        if folder.is_dir() and next(folder.glob("*.xml"), None):
            return Found("voc", partial(voc.read_flat, folder, root))
    return None


def _find_yolo_folder(root: Path, split: str) -> Found | None:
    wanted = split_names(split)
    candidates = [*(root / "images" / n for n in wanted), *(root / n / "images" for n in wanted)]
    candidates += [*(root / n for n in wanted), root / "images"]
    for folder in candidates:
        labelled = folder.is_dir() and any(native.label_file(image).exists() for image in images_below(folder))
        if labelled:
            listed = root / voc.CLASS_FILE
            lines = read_text(listed).splitlines() if listed.is_file() else []
            names = dict(enumerate(line.strip() for line in lines if line.strip()))
            return Found("yolo", partial(yolo.read_folder, folder, names or None))
    return None


def _json_of_split(file: Path, split: str) -> Path:
    """The file itself, or its sibling when its name says that it is another split."""
    for known in ("train", "valid", "validation", "val", "test"):
        if known in file.stem and known not in split_names(split):
            for name in split_names(split):
                sibling = file.with_name(file.name.replace(known, name))
                if sibling.is_file():
                    return sibling
            if known not in ("val", "valid", "validation") or split_names(split)[0] != "val":
                raise DataError(f"{file}: holds the split {known!r} and no file for {split!r} lies beside it")
    return file
