"""Where images to predict on come from: files, folders, globs, lists, and images in memory.

`photos(source)` looks at everything at once, so that a wrong path fails before the first prediction, and decodes one
image at a time. Test: tests/engine/test_sources.py.

Legend: B images, H W pixels; images leave here as uint8 (H, W, 3) RGB, upright.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from mamba_yolo.data import decode_image
from mamba_yolo.data.readers.files import IMAGE_SUFFIXES
from mamba_yolo.errors import ConfigError, ImageError, MissingFileError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
KINDS = "a path, folder, glob, .txt list, list, PIL image, uint8 RGB array, tensor or bytes"

logger = logging.getLogger("mamba_yolo")


class Photo(NamedTuple):
    """One image and where it came from."""

    path: str
    image: npt.NDArray[np.uint8]


def photos(source: Any) -> Iterator[Photo]:
    """Every image of a source, decoded when asked for.

    An unreadable file among several is skipped with a warning; a single unreadable file is an error.

    Raises:
        MissingFileError: a path that does not exist.
        ConfigError: an empty folder or list, an unsupported kind, a wrong shape or type of an array.
        ImageError: a single file that cannot be decoded, or not one readable file among several.
    """
    items = _expand(source)
    if not items:
        raise ConfigError("no images to predict on: the list is empty")
    return _decoded(items)


def _decoded(items: Sequence[Any]) -> Iterator[Photo]:
    skipped = 0
    for number, item in enumerate(items):
        try:
            yield _load(item, number)
        except ImageError as error:
            if len(items) == 1:
                raise
            skipped += 1
            logger.warning("skipped: %s", error)
    if skipped == len(items):
        raise ImageError(f"none of the {len(items)} images could be read; the warnings above give the reasons")
    if skipped:
        logger.warning("%d of %d images could not be read and were skipped", skipped, len(items))


def _load(item: Any, number: int) -> Photo:
    if isinstance(item, Path):
        return Photo(str(item), decode_image(item))
    if isinstance(item, bytes):
        return Photo(f"image{number}", decode_image(item))
    return Photo(f"image{number}", item)


def _expand(source: Any) -> list[Any]:
    """Flat list of paths, bytes and checked uint8 arrays."""
    if isinstance(source, str | Path):
        return list(_expand_path(str(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return [bytes(source)]
    if isinstance(source, Image.Image):
        return [np.array(ImageOps.exif_transpose(source).convert("RGB"))]
    if isinstance(source, np.ndarray):
        return [_checked_array(source)]
    if isinstance(source, torch.Tensor):
        return _images_of_tensor(source)
    if isinstance(source, Iterable) and not isinstance(source, dict):
        return [item for part in source for item in _expand(part)]
    raise ConfigError(f"cannot predict on {type(source).__name__}; give {KINDS}")


def _expand_path(text: str) -> Iterable[Path]:
    if not text:
        raise MissingFileError(f"the path is empty; give {KINDS}")
    if "://" in text:
        raise ConfigError(f"{text}: addresses are not read; download the file and give its path")
    path = Path(text).expanduser()
    if path.is_dir():
        return _images_in(path)
    if path.is_file():
        return _paths_in_list(path) if path.suffix.lower() == ".txt" else [_still_image(path)]
    if glob.has_magic(text):
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
        found = sorted(p for p in map(Path, matches) if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise MissingFileError(f"{text}: no image matches this pattern")
        return found
    raise MissingFileError(f"{text}: no such file or folder; give {KINDS}")


def _images_in(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigError(
            f"{folder}: no images in this folder (looked for {kinds}); for subfolders use '{folder}/**/*'"
        )
    return found


def _paths_in_list(file: Path) -> list[Path]:
    """Paths of a .txt file, one per line; relative ones count from the file's own folder, then from here."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    paths = [p if p.exists() else Path(line) for line in lines if line for p in [file.parent / line]]
    missing = next((p for p in paths if not p.is_file()), None)
    if missing is not None:
        raise MissingFileError(f"{file}: names {missing}, which is not a file")
    if not paths:
        raise ConfigError(f"{file}: no paths in this list; write one image path per line")
    return [_still_image(p) for p in paths]


def _still_image(path: Path) -> Path:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise ConfigError(f"{path}: videos are not read in this version; extract its frames as images first")
    return path


def _checked_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ConfigError(f"an array must have shape (H, W, 3), RGB, got {array.shape}; for batches give a list")
    if array.dtype != np.uint8:
        raise ConfigError(f"an array must be uint8 (0 to 255), got {array.dtype}; float images go in as torch tensors")
    return np.ascontiguousarray(array)


def _images_of_tensor(tensor: torch.Tensor) -> list[npt.NDArray[np.uint8]]:
    batch = tensor.detach().cpu()
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape[1:]:
        raise ConfigError(f"a tensor must have shape (3, H, W) or (B, 3, H, W), RGB, got {tuple(tensor.shape)}")
    if batch.is_floating_point():
        batch = _uint8_from_unit(batch)
    if batch.dtype != torch.uint8:
        raise ConfigError(f"a tensor must be uint8 (0 to 255) or float (0 to 1), got {tensor.dtype}")
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in batch]


def _uint8_from_unit(batch: torch.Tensor) -> torch.Tensor:
    inside = (batch >= 0) & (batch <= 1)  # false for NaN too
    if not bool(inside.all()):
        raise ConfigError(
            f"a float tensor must lie in 0..1, got {batch.min().item():g} to {batch.max().item():g}; divide by 255?"
        )
    return (batch.float() * 255).round().to(torch.uint8)
