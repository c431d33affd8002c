"""`convert_dataset`: the same pictures and boxes in another format; opening the result gives the same bits.

The target is built beside its final place and renamed when complete, so half a data set never looks whole. Pictures are
hard-linked where the file system allows, else copied; the source is never touched.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from mamba_yolo.data.dataset import Dataset, open_dataset
from mamba_yolo.data.readers.voc import CLASS_FILE
from mamba_yolo.errors import DataError, MissingFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mamba_yolo.types import Sample

Target = Literal["yolo", "coco", "voc"]
ALL_SPLITS = ("train", "val", "test")


def convert_dataset(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: Target,
    *,
    splits: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Dataset]:
    """Write `source` as a new data set of format `to` in the folder `target`.

    Args:
        source: what `open_dataset` takes.
        target: a folder that does not exist, or is empty.
        to: "yolo", "coco" or "voc". VOC has no polygons; YOLO and VOC have no crowd regions: those are left out.
        splits: which splits; by default those of train, val and test that the source has.
        progress: called with (pictures done, pictures in all).

    Returns:
        The source's splits that were written.

    Raises:
        DataError: the target is not empty, or two pictures have the same name.
    """
    writers = {"yolo": _write_yolo, "coco": _write_coco, "voc": _write_voc}
    if to not in writers:
        raise DataError(f"cannot convert to {to!r}; choose yolo, coco or voc")
    final = Path(target)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise DataError(f"{final}: exists and is not an empty folder; choose another target")
    datasets = _open(source, splits)
    _check_names(datasets)
    final.parent.mkdir(parents=True, exist_ok=True)
    step = _Steps(sum(len(d) for d in datasets.values()), progress)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        writers[to](datasets, unfinished, step)
        unfinished.chmod(0o755)
        if final.exists():
            final.rmdir()
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return datasets


class _Steps:
    """Counts pictures and tells who listens."""

    def __init__(self, total: int, listener: Callable[[int, int], None] | None) -> None:
        self.total, self.listener, self.done = total, listener, 0

    def __call__(self) -> None:
        self.done += 1
        if self.listener is not None:
            self.listener(self.done, self.total)


def _open(source: str | os.PathLike[str], splits: Sequence[str] | None) -> dict[str, Dataset]:
    if splits is not None:
        return {split: open_dataset(source, split) for split in splits}
    if not Path(source).exists():
        raise MissingFileError(f"{source}: no such file or folder")
    datasets: dict[str, Dataset] = {}
    refusals: list[str] = []
    for split in ALL_SPLITS:
        try:
            datasets[split] = open_dataset(source, split)
        except (DataError, MissingFileError) as error:
            refusals.append(str(error))
    if not datasets:
        raise DataError(refusals[0])
    return datasets


def _check_names(datasets: dict[str, Dataset]) -> None:
    """Classes must agree over the splits, and stems must be unique: they name the label files."""
    first, *others = datasets.values()
    if any(other.names != first.names for other in others):
        raise DataError(f"{first.root}: the splits have different class names; convert them one by one")
    stems: dict[str, Path] = {}
    for dataset in datasets.values():
        for sample in dataset:
            known = stems.setdefault(sample.path.stem, sample.path)
            if known != sample.path:
                raise DataError(f"{sample.path}: has the same name as {known}; rename one of them")


def _place(image: Path, folder: Path) -> None:
    """Put a picture into the folder without copying its bytes where possible."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.resolve(), folder / image.name)
    except OSError:
        shutil.copyfile(image, folder / image.name)


def _write_yolo(datasets: dict[str, Dataset], root: Path, step: _Steps) -> None:
    for split, dataset in datasets.items():
        labels = root / "labels" / split
        labels.mkdir(parents=True)
        for i, sample in enumerate(dataset):
            _place(sample.path, root / "images" / split)
            rows = _yolo_rows(sample, dataset.image_size(i))
            (labels / f"{sample.path.stem}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            step()
    first = next(iter(datasets.values()))
    config = {**{split: f"images/{split}" for split in datasets}, "names": first.names}
    (root / "data.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _yolo_rows(sample: Sample, size: tuple[int, int]) -> list[str]:
    """Polygon rows where every object has polygons (parts are joined in order), else box rows; 17 digits."""
    height, width = size
    kept = [i for i in range(len(sample.classes)) if not sample.is_crowd[i]]
    segments = sample.segments
    rows = []
    for i in kept:
        if segments is not None and all(segments[k] for k in kept):
            points = [p for part in segments[i] for p in part.tolist()]
            numbers = [v for x, y in points for v in (x / width, y / height)]
        else:
            x1, y1, x2, y2 = sample.boxes_xyxy[i].tolist()
            numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        rows.append(" ".join([str(int(sample.classes[i])), *(repr(v) for v in numbers)]))
    return rows


def _write_coco(datasets: dict[str, Dataset], root: Path, step: _Steps) -> None:
    (root / "annotations").mkdir()
    for split, dataset in datasets.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, sample in enumerate(dataset):
            height, width = dataset.image_size(i)
            images.append({"id": i + 1, "file_name": sample.path.name, "width": width, "height": height})
            annotations += _coco_annotations(sample, i + 1, len(annotations) + 1)
            _place(sample.path, root / "images" / split)
            step()
        categories = [{"id": k + 1, "name": name} for k, name in dataset.names.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _coco_annotations(sample: Sample, image_id: int, first_id: int) -> list[dict[str, Any]]:
    records = []
    for k, (box, class_id) in enumerate(zip(sample.boxes_xyxy.tolist(), sample.classes.tolist(), strict=True)):
        x1, y1, x2, y2 = box
        record = {
            "id": first_id + k,
            "image_id": image_id,
            "category_id": class_id + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(sample.is_crowd[k]),
        }
        if sample.segments is not None and sample.segments[k]:
            record["segmentation"] = [part.flatten().tolist() for part in sample.segments[k]]
        records.append(record)
    return records


def _write_voc(datasets: dict[str, Dataset], root: Path, step: _Steps) -> None:
    annotations, lists = root / "Annotations", root / "ImageSets" / "Main"
    annotations.mkdir()
    lists.mkdir(parents=True)
    for split, dataset in datasets.items():
        for i, sample in enumerate(dataset):
            _place(sample.path, root / "JPEGImages")
            tree = ET.ElementTree(_voc_element(sample, dataset.names, dataset.image_size(i)))
            ET.indent(tree)
            tree.write(annotations / f"{sample.path.stem}.xml", encoding="utf-8")
            step()
        stems = "".join(f"{sample.path.stem}\n" for sample in dataset)
        (lists / f"{split}.txt").write_text(stems, encoding="utf-8")
    names = next(iter(datasets.values())).names
    (root / CLASS_FILE).write_text("".join(f"{name}\n" for name in names.values()), encoding="utf-8")


def _voc_element(sample: Sample, names: dict[int, str], size: tuple[int, int]) -> ET.Element:
    element = ET.Element("annotation")
    ET.SubElement(element, "filename").text = sample.path.name
    about = ET.SubElement(element, "size")
    for key, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        ET.SubElement(about, key).text = str(value)
    for i, (box, class_id) in enumerate(zip(sample.boxes_xyxy.tolist(), sample.classes.tolist(), strict=True)):
        if not sample.is_crowd[i]:
            item = ET.SubElement(element, "object")
            ET.SubElement(item, "name").text = names[class_id]
            corners = ET.SubElement(item, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ET.SubElement(corners, key).text = repr(int(value) if value == int(value) else value)
    return element
