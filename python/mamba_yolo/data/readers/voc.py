"""Pascal VOC XML, one file per picture.

Layouts: `Annotations`, `JPEGImages`, `ImageSets/Main/<split>.txt`; or XML beside the pictures, one folder per split.
Corners are taken as they stand (`x1 = xmin … x2 = xmax`), as most tools write and read them. Classes are numbered by
`classes.txt` where there is one, else by name over all annotations, so that all splits agree. Entities are refused.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from mamba_yolo.data.annotations import Annotation, Problem, Reading, to_sample
from mamba_yolo.data.readers.files import images_below, read_text, readable, report_shared, sample_order
from mamba_yolo.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
CLASS_FILE = "classes.txt"


def read_standard(root: Path, names_of_split: tuple[str, ...]) -> Reading:
    """Read a split of a folder laid out as the VOC development kit."""
    lists = root / "ImageSets" / "Main"
    split_file = next((f for f in (lists / f"{name}.txt" for name in names_of_split) if f.is_file()), None)
    if split_file is None:
        known = ", ".join(sorted(f.stem for f in lists.glob("*.txt"))) or "none"
        raise DataError(f"{root}: no ImageSets/Main/{names_of_split[0]}.txt; it has {known}")
    stems = [line.split()[0] for line in read_text(split_file).splitlines() if line.strip()]
    problems: list[Problem] = []
    pictures = sorted(map(Path, images_below(root / "JPEGImages")), key=sample_order, reverse=True)
    by_stem = {path.stem: path for path in pictures}
    images = []
    for number, stem in enumerate(stems, 1):
        if stem in by_stem:
            images.append(by_stem[stem])
        else:
            problems.append(Problem(str(split_file), str(number), f"{stem}: no such picture", "left it out"))
    annotations = root / "Annotations"
    return _read(images, {i: annotations / f"{i.stem}.xml" for i in images}, root, [annotations], problems)


def read_flat(folder: Path, root: Path) -> Reading:
    """Read a folder in which each picture has its XML beside it; classes are those of all splits below `root`."""
    images = [Path(name) for name in images_below(folder)]
    splits = [folder] if folder == root else [path for path in sorted(root.iterdir()) if path.is_dir()]
    return _read(images, {image: image.with_suffix(".xml") for image in images}, root, splits, [])


def _read(
    images: list[Path], sources: dict[Path, Path], root: Path, name_folders: list[Path], problems: list[Problem]
) -> Reading:
    names = _class_names(root, name_folders)
    new_id = {name: i for i, name in enumerate(names)}
    sizes = readable(images, problems)
    samples = []
    earlier: dict[Path, Path] = {}
    for image in sizes:
        first = earlier.setdefault(image.with_suffix(""), image)
        if first is not image:
            report_shared(image, first, problems)
    for image, size in sizes.items():
        found = _annotations(sources[image], size, new_id, problems)
        samples.append(to_sample(image, size, sources[image], found, problems))
    return Reading(dict(enumerate(names)), samples, list(sizes.values()), problems)


def _class_names(root: Path, folders: list[Path]) -> list[str]:
    """Names in the order of their classes."""
    listed = root / CLASS_FILE
    if listed.is_file():
        return [line.strip() for line in read_text(listed).splitlines() if line.strip()]
    names: set[str] = set()
    for path in (path for folder in folders for path in folder.glob("*.xml")):
        try:
            names.update(o.findtext("name", "").strip() for o in parse_xml(path).iter("object"))
        except DataError:
            continue  # reported where the file is used
    return sorted(names - {""})


def parse_xml(path: Path) -> ET.Element:
    """The root element; files that declare entities are refused before anything is expanded.

    Raises:
        DataError: missing, not XML, or with a document type.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: declares a document type or entities, which annotations never need")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise DataError(f"{path}: not valid XML ({error})") from None


def _annotations(
    path: Path, size: tuple[int, int], new_id: dict[str, int], problems: list[Problem]
) -> list[Annotation]:
    if not path.exists():
        return []
    try:
        element = parse_xml(path)
    except DataError as error:
        what = str(error).removeprefix(f"{path}: ")
        problems.append(Problem(str(path), "", what, "used the picture as background"))
        return []
    _compare_size(element, size, path, problems)
    found = []
    for number, item in enumerate(element.iter("object"), 1):
        parsed = _parse(item, f"object {number}", new_id)
        if isinstance(parsed, str):
            problems.append(Problem(str(path), f"object {number}", parsed, "dropped the object"))
        else:
            found.append(parsed)
    return found


def _parse(item: ET.Element, where: str, new_id: dict[str, int]) -> Annotation | str:
    """The object, or what is wrong with it."""
    name = item.findtext("name", "").strip()
    if name not in new_id:
        return f"class {name!r} is not among the classes"
    box = item.find("bndbox")
    if box is None:
        return "it has no bndbox"
    try:
        x1, y1, x2, y2 = (float(box.findtext(corner, "")) for corner in CORNERS)
    except ValueError:
        return "bndbox needs the numbers xmin, ymin, xmax and ymax"
    return Annotation(where, new_id[name], (x1, y1, x2, y2))


def _compare_size(element: ET.Element, size: tuple[int, int], path: Path, problems: list[Problem]) -> None:
    """Some tools write 0x0: that says nothing and is passed over."""
    stated = (element.findtext("size/height", "0").strip(), element.findtext("size/width", "0").strip())
    if stated not in (("0", "0"), ("", "")) and stated != (str(size[0]), str(size[1])):
        what = f"says {stated[1]}x{stated[0]}, the file is {size[1]}x{size[0]} when upright"
        problems.append(Problem(str(path), "size", what, "used the file's size"))


def find_root(path: Path) -> Path | None:
    """The folder that holds Annotations and JPEGImages, at `path` or one level below."""
    for candidate in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        if (candidate / "Annotations").is_dir() and (candidate / "JPEGImages").is_dir():
            return candidate
    return None
