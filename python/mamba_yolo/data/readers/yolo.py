"""YOLO data sets: `data.yaml` (or plain folders) and one text file per picture.

Rows: `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 …` for polygons, in fractions of the upright picture. Labels lie
where the last `images` of the picture's path becomes `labels`, or beside the picture. A picture without a label file
is background. Scripts under `download:` are never run.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import yaml

from mamba_yolo.data.annotations import Annotation, Polygon, Problem, Reading, to_sample
from mamba_yolo.data.labels import Samples, scan
from mamba_yolo.data.readers.files import (
    images_below,
    is_image,
    read_text,
    report_shared,
    report_unreadable,
    split_names,
)
from mamba_yolo.errors import DataError, MissingFileError

BOX_COLUMNS = 5
MIN_POLYGON_COLUMNS = 7
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_CLASS = 65_535  # where no names say which classes there are


def read_yaml(path: Path, split: str) -> Reading:
    """Read one split of a `data.yaml`."""
    config = load_yaml(path)
    problems: list[Problem] = []
    key = next((name for name in split_names(split) if config.get(name)), None)
    if key is None:
        present = ", ".join(k for k in ("train", "val", "valid", "validation", "test") if config.get(k))
        raise DataError(f"{path}: no entry for the split {split!r}; it has {present or 'none'}")
    entries = config[key] if isinstance(config[key], list) else [config[key]]
    base = _base_folder(path, config)
    images = [image for entry in entries for image in _images_of(str(entry), base, path)]
    return _read(images, class_names(config, path), problems)


def read_folder(images: Path, names: dict[int, str] | None) -> Reading:
    """Read a folder of pictures with labels; without names, classes are called by their numbers."""
    return _read(images_below(images), names, [])


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; nothing in it is executed."""
    try:
        config = yaml.load(read_text(path), Loader=SAFE_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}: not valid YAML{line}") from None
    if not isinstance(config, dict):
        raise DataError(f"{path}: expected keys such as train, val and names")
    return config


def class_names(config: dict[str, Any], path: Path) -> dict[int, str] | None:
    """Class names by the ids used in the label files."""
    names, count = config.get("names"), config.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and isinstance(count, int):
        names = {i: str(i) for i in range(count)}
    if names is None:
        return None
    if not isinstance(names, dict) or not all(isinstance(k, int) and k >= 0 for k in names):
        raise DataError(f"{path}: names must be a list, or a mapping from class id to name")
    if isinstance(count, int) and count != len(names):
        raise DataError(f"{path}: nc is {count} but there are {len(names)} names; correct one of them")
    return {k: str(names[k]) for k in sorted(names)}


def _base_folder(path: Path, config: dict[str, Any]) -> Path:
    """`path:` relative to the yaml, when it exists; else the yaml's own folder."""
    stated = path.parent / str(config.get("path") or ".").replace("\\", "/")
    return stated if stated.is_dir() else path.parent


def _images_of(entry: str, base: Path, source: Path) -> list[str]:
    """Pictures under one entry: a folder, a list of files, or one file."""
    entry = entry.replace("\\", "/")
    # Roboflow writes ../train/images although the folder lies beside the yaml.
    candidates = [base / entry, base / entry.removeprefix("../")]
    place = next((Path(os.path.normpath(c)) for c in candidates if c.exists()), None)
    if place is None:
        raise MissingFileError(f"{source}: {candidates[0]} does not exist")
    if place.is_dir():
        return images_below(place)
    if place.suffix.lower() == ".txt":
        lines = (line.strip().replace("\\", "/") for line in read_text(place).splitlines())
        beside = ((line, place.parent / line) for line in lines if line)
        return [str(path if path.exists() else base / line) for line, path in beside]
    return [str(place)] if is_image(place) else []


def _read(images: list[str], names: dict[int, str] | None, problems: list[Problem]) -> Reading:
    found = scan(images, None if names is None else list(names))
    report_unreadable(((found.names[i], reason) for i, reason in found.unreadable), problems)
    for i, first in found.shared:
        report_shared(found.names[i], found.names[first], problems)
    rows = {i: _rows(Path(labels), problems) for i, labels in found.odd}
    if names is None:
        largest = max((row[1] for odd in rows.values() for row in odd if row[1] <= MAX_CLASS), default=-1)
        names = {i: str(i) for i in range(max(largest, int(found.objects[0].max(initial=-1))) + 1)}
    new_id = {old: new for new, old in enumerate(names)}
    judged = {}
    for i, labels in found.odd:
        source = Path(labels)
        objects = _annotations(rows[i], source, found.sizes[i], new_id, problems)
        judged[i] = to_sample(Path(found.names[i]), found.sizes[i], source, objects, problems)
    problems += [Problem(labels, "", "labels without a picture", "ignored the file") for labels in found.orphans]
    dense = {new: names[old] for old, new in new_id.items()}
    left_out = {i for i, _ in found.unreadable}
    places = [i for i in range(len(found.names)) if i not in left_out]
    return Reading(dense, Samples(found, places, judged), [found.sizes[i] for i in places], problems)


_Row = tuple[int, int, list[float]]  # line number, class, numbers


def _rows(path: Path, problems: list[Problem]) -> list[_Row]:
    """Rows of a label file that can be read as numbers."""
    if not path.exists():
        return []
    try:
        text = read_text(path)
    except DataError as error:
        what = str(error).removeprefix(f"{path}: ")
        problems.append(Problem(str(path), "", what, "used the picture as background"))
        return []
    rows: list[_Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _parse(line)
            if isinstance(row, str):
                problems.append(Problem(str(path), str(number), row, "dropped the row"))
            else:
                rows.append((number, *row))
    return _one_kind(rows, path, problems)


def _parse(line: str) -> tuple[int, list[float]] | str:
    """Class and numbers of a row, or what is wrong with it."""
    if "," in line:
        return "columns are separated by commas; YOLO separates them by spaces"
    columns = line.split()
    try:
        numbers = [float(column) for column in columns]
    except ValueError:
        return "a column is not a number"
    if not all(math.isfinite(number) for number in numbers):
        return "a number is NaN or infinite"
    if len(numbers) != BOX_COLUMNS and (len(numbers) < MIN_POLYGON_COLUMNS or len(numbers) % 2 == 0):
        return f"{len(numbers)} columns; expected 5 for a box, or an odd number from 7 for a polygon"
    if numbers[0] != int(numbers[0]):
        return f"class {columns[0]} is not a whole number"
    return int(numbers[0]), numbers[1:]


def _one_kind(rows: list[_Row], path: Path, problems: list[Problem]) -> list[_Row]:
    """Where a file mixes boxes and polygons, both are used; say so."""
    boxes = [row for row in rows if len(row[2]) == BOX_COLUMNS - 1]
    if boxes and len(boxes) < len(rows):
        what = f"{len(boxes)} box rows among polygon rows"
        problems.append(Problem(str(path), str(boxes[0][0]), what, "those objects have no polygon"))
    return rows


def _annotations(
    rows: list[_Row], path: Path, size: tuple[int, int], new_id: dict[int, int], problems: list[Problem]
) -> list[Annotation]:
    found = []
    for line, class_id, numbers in rows:
        if class_id not in new_id:
            what = f"class {class_id} is not among the {len(new_id)} classes of the data set"
            problems.append(Problem(str(path), str(line), what, "dropped the row"))
            continue
        box, polygons = _geometry(numbers, size)
        found.append(Annotation(str(line), new_id[class_id], box, polygons))
    return found


def _geometry(
    numbers: list[float], size: tuple[int, int]
) -> tuple[tuple[float, float, float, float], list[Polygon] | None]:
    """Corners in pixels, and the polygon when there is one."""
    height, width = size
    if len(numbers) == BOX_COLUMNS - 1:
        cx, cy, w, h = numbers
        return ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height), None
    xs = [x * width for x in numbers[0::2]]
    ys = [y * height for y in numbers[1::2]]
    return (min(xs), min(ys), max(xs), max(ys)), [list(zip(xs, ys, strict=True))]
