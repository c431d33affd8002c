"""COCO JSON: images, annotations with bbox (x, y, w, h pixels), polygons or RLE, iscrowd; category ids with gaps.

Classes are numbered by rising category id. The box is the annotation's bbox, also where there are polygons. Run-length
masks become polygons along pixel edges, from which the mask comes back exactly; an object without either has its box.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mamba_yolo.data.annotations import Annotation, Polygon, Problem, Reading, to_sample
from mamba_yolo.data.readers.files import readable, sample_order, split_names
from mamba_yolo.errors import DataError, MissingFileError
from mamba_yolo.ops.rings import polygons_from_rle

if TYPE_CHECKING:
    from pathlib import Path

MIN_POLYGON_NUMBERS = 6


def read(path: Path, split: str) -> Reading:
    """Read one annotation file; pictures are looked for beside it and under `images`."""
    content = load(path)
    problems: list[Problem] = []
    names, new_id = _classes(content, path)
    records = _image_records(content, path, problems)
    folder = _image_folder(path, split, [record["file_name"] for record in records.values()])
    place = {key: folder / record["file_name"] for key, record in records.items()}
    sizes = readable(place.values(), problems)
    sizes_by_id = {key: sizes[file] for key, file in place.items() if file in sizes}
    found = _annotations(content, path, records, new_id, sizes_by_id, problems)
    samples = []
    for key in sorted(place, key=lambda k: sample_order(place[k])):
        if place[key] not in sizes:
            continue
        size = sizes[place[key]]
        _compare_size(records[key], size, path, problems)
        samples.append(to_sample(place[key], size, path, found.get(key, []), problems))
    return Reading(names, samples, [sizes[s.path] for s in samples], problems)


def load(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with the lists that COCO has."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not valid JSON") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: not COCO annotations; expected the lists images, annotations and categories")
    for key in ("annotations", "categories"):
        if not isinstance(content.setdefault(key, []), list):
            raise DataError(f"{path}: {key} must be a list")
    return content


def _classes(content: dict[str, Any], path: Path) -> tuple[dict[int, str], dict[int, int]]:
    """Names by class, and class by category id."""
    try:
        by_id = {int(c["id"]): str(c["name"]) for c in content["categories"]}
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: every category needs an id and a name") from None
    # Roboflow puts an unused group with the id 0 before the real classes.
    used = {_key(a, "category_id") for a in content["annotations"] if isinstance(a, dict)}
    groups = {_key(c, "supercategory") for c in content["categories"] if c.get("id") != 0}
    if 0 in by_id and 0 not in used and by_id[0] in groups:
        del by_id[0]
    ordered = sorted(by_id)
    return {i: by_id[k] for i, k in enumerate(ordered)}, {k: i for i, k in enumerate(ordered)}


def _image_records(content: dict[str, Any], path: Path, problems: list[Problem]) -> dict[Any, dict[str, Any]]:
    records: dict[Any, dict[str, Any]] = {}
    for i, record in enumerate(content["images"]):
        usable = isinstance(record, dict) and isinstance(record.get("id"), int | str)
        if not usable or not isinstance(record.get("file_name"), str):
            problems.append(Problem(str(path), f"images[{i}]", "no id or no file_name", "left out the picture"))
        elif record["id"] in records:
            problems.append(Problem(str(path), f"image {record['id']}", "the id occurs twice", "kept the first"))
        else:
            records[record["id"]] = record
    return records


def _image_folder(path: Path, split: str, file_names: list[str]) -> Path:
    """The folder in which most of the first pictures lie."""
    root = path.parent.parent
    stem = path.stem.removeprefix("instances_")
    subfolders = dict.fromkeys([stem, stem.split("_")[0], *split_names(split), ""])
    tops = [path.parent, path.parent / "images", root / "images", root / "JPEGImages", root]
    candidates = [path.parent, *(top / sub for top in tops for sub in subfolders)]
    looked_at = file_names[:20]
    hits = {c: sum((c / name).is_file() for name in looked_at) for c in candidates}
    best = max(candidates, key=lambda c: hits[c])
    if looked_at and not hits[best]:
        raise MissingFileError(f"{path}: {looked_at[0]} is neither beside it nor under {root / 'images'}")
    return best


def _annotations(
    content: dict[str, Any],
    path: Path,
    records: dict[Any, dict[str, Any]],
    new_id: dict[int, int],
    sizes: dict[Any, tuple[int, int]],
    problems: list[Problem],
) -> dict[Any, list[Annotation]]:
    """Objects by image id, in the order of the file."""
    found: dict[Any, list[Annotation]] = {}
    for i, record in enumerate(content["annotations"]):
        where = f"annotation {record['id']}" if isinstance(record, dict) and "id" in record else f"annotations[{i}]"
        parsed = _parse(record, where, records, new_id)
        if isinstance(parsed, str):
            problems.append(Problem(str(path), where, parsed, "dropped the object"))
            continue
        if isinstance(record.get("segmentation"), dict):
            try:
                parsed = parsed._replace(polygons=_outlines(record["segmentation"], sizes.get(record["image_id"])))
            except DataError as error:
                problems.append(Problem(str(path), where, str(error), "kept its box alone"))
        found.setdefault(record["image_id"], []).append(parsed)
    return found


def _parse(record: Any, where: str, records: dict[Any, Any], new_id: dict[int, int]) -> Annotation | str:
    """The object, or what is wrong with it."""
    if not isinstance(record, dict):
        return "not an object"
    if _key(record, "image_id") not in records:
        return f"belongs to no picture (image_id {record.get('image_id')!r})"
    if _key(record, "category_id") not in new_id:
        return f"category {record.get('category_id')!r} is not among the categories"
    bbox = record.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(v, int | float) for v in bbox):
        return "bbox must be four numbers"
    try:
        x, y, w, h = (float(v) for v in bbox)
    except OverflowError:
        return "bbox has a number that is too large"
    try:
        polygons = _polygons(record.get("segmentation"))
    except (TypeError, ValueError, OverflowError):
        return "a polygon has something that is not a number"
    is_crowd = bool(record.get("iscrowd", 0))
    return Annotation(where, new_id[record["category_id"]], (x, y, x + w, y + h), polygons, is_crowd)


def _key(record: dict[str, Any], name: str) -> int | float | str | None:
    """A value that refers to something; None for what cannot."""
    value = record.get(name)
    return value if isinstance(value, int | float | str) else None


def _outlines(rle: dict[str, Any], size: tuple[int, int] | None) -> list[Polygon]:
    """Polygons of a run-length mask of a picture of (height, width); DataError where they do not fit each other."""
    rings = polygons_from_rle(rle)
    stated = tuple(rle["size"])
    if size is not None and stated != size:
        raise DataError(f"its mask is {stated[1]}x{stated[0]}, the picture {size[1]}x{size[0]}")
    return [ring.tolist() for ring in rings]


def _polygons(segmentation: Any) -> list[Polygon] | None:
    """Polygons of an object; None for boxes, an empty list for run-length masks."""
    if isinstance(segmentation, dict):
        return []
    if not isinstance(segmentation, list) or not segmentation:
        return None
    flat = [part for part in segmentation if isinstance(part, list) and len(part) >= MIN_POLYGON_NUMBERS]
    return [[(float(x), float(y)) for x, y in zip(part[0::2], part[1::2], strict=False)] for part in flat]


def _compare_size(record: dict[str, Any], size: tuple[int, int], path: Path, problems: list[Problem]) -> None:
    stated = (record.get("height"), record.get("width"))
    if None not in stated and stated != size:
        what = f"says {stated[1]}x{stated[0]}, the file {record['file_name']} is {size[1]}x{size[0]} when upright"
        problems.append(Problem(str(path), f"image {record['id']}", what, "used the file's size"))
