"""Image files of a folder, and their sizes; what cannot be read is reported and left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mamba_yolo.data._native import native
from mamba_yolo.data.annotations import Problem
from mamba_yolo.data.decode import image_sizes
from mamba_yolo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
MAX_ANNOTATION_BYTES = 64 << 20  # one XML or text file; COCO JSON may be larger


def split_names(split: str) -> tuple[str, ...]:
    """The names under which a split goes."""
    return SPLIT_NAMES.get("val" if split in SPLIT_NAMES["val"] else split, (split,))


def is_image(path: Path) -> bool:
    """Whether the name is that of a picture."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_below(folder: Path) -> list[str]:
    """Picture files of a folder and its subfolders, as text: a path for each takes as long as reading its labels."""
    return native.files_below(folder, sorted(IMAGE_SUFFIXES))


def sample_order(path: Path) -> tuple[str, str]:
    """Samples are sorted by stem, the same in every format."""
    return path.stem, str(path)


def readable(paths: Iterable[Path], problems: list[Problem]) -> dict[Path, tuple[int, int]]:
    """(height, width) of each picture that can be read, in sample order; the others are reported."""
    ordered = sorted(set(paths), key=sample_order)
    sizes: dict[Path, tuple[int, int]] = {}
    for path, (height, width, reason) in zip(ordered, image_sizes(ordered), strict=True):
        if reason is None:
            sizes[path] = (height, width)
        else:
            report_unreadable([(path, reason)], problems)
    return sizes


def report_unreadable(pictures: Iterable[tuple[Path | str, str]], problems: list[Problem]) -> None:
    """Pictures that cannot be read, and why."""
    for path, reason in pictures:
        what = reason.removeprefix(f"{path}: ")
        problems.append(Problem(str(path), "", what, "left out the picture"))


def report_shared(path: Path | str, first: Path | str, problems: list[Problem]) -> None:
    """A picture has its folder and stem, and so its label file, in common with an earlier one."""
    what = f"shares its name with {Path(first).name}"
    problems.append(Problem(str(path), "", what, "both use the same labels"))


def read_text(path: Path) -> str:
    """A label file's text, without a byte order mark.

    Raises:
        DataError: not a regular file, too large, or not UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    if path.stat().st_size > MAX_ANNOTATION_BYTES:
        raise DataError(f"{path}: more than {MAX_ANNOTATION_BYTES} bytes, this is no label file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
