"""Pictures from files and bytes: decode, size from the header, letterbox.

Policy for odd files: `rust/src/image/mod.rs`. Test: `tests/data/test_image.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mamba_yolo.data._native import native
from mamba_yolo.errors import ImageError, MissingFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

PathLike = str | os.PathLike[str]


def decode_image(
    source: PathLike | bytes, *, exif: Literal["apply", "ignore"] = "apply", strict: bool = False
) -> npt.NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, BMP, TIFF, GIF, PGM or PPM; the format is found by its content.

    Args:
        source: a file, or a file's bytes.
        exif: turn the picture as its EXIF orientation says, or leave it as stored.
        strict: refuse damaged files that would otherwise be repaired (up to 10 % missing becomes grey 114).

    Returns:
        (H, W, 3) uint8 RGB. Alpha is dropped; 16 bits become 8; of several frames the first.

    Raises:
        ImageError: names the file and the reason.
    """
    if exif not in ("apply", "ignore"):
        raise ValueError(f"exif must be 'apply' or 'ignore', got {exif!r}")
    apply_exif = exif == "apply"
    try:
        if isinstance(source, bytes):
            return native.decode_bytes(source, apply_exif, strict)
        return native.decode_file(os.fspath(source), apply_exif, strict)
    except OSError as error:
        raise ImageError(str(error)) from None


def image_size(path: PathLike) -> tuple[int, int]:
    """(height, width) of the upright picture, from the header alone.

    Raises:
        ImageError: names the file and the reason.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{os.fspath(path)}: no such file")
    [(height, width, reason)] = image_sizes([path])
    if reason is not None:
        raise ImageError(reason)
    return height, width


def image_sizes(paths: Sequence[PathLike]) -> list[tuple[int, int, str | None]]:
    """(height, width, None) of each upright picture, or (0, 0, reason) where the header cannot be read."""
    threads = min(os.cpu_count() or 1, 8)
    return native.image_sizes([os.fspath(path) for path in paths], threads)


def letterbox(
    image: npt.NDArray[np.uint8], height: int, width: int, *, scale_up: bool = True
) -> tuple[npt.NDArray[np.uint8], tuple[float, int, int]]:
    """Scale (H, W, 3) to fit, centre it and pad with grey 114.

    Returns:
        (3, height, width) uint8 and (gain, left, top): `x_box = x * gain + left`.
    """
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 of shape (H, W, 3), got {image.dtype} {image.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} and {width}")
    planes, gain, left, top = native.letterbox(image, height, width, scale_up)
    return planes, (gain, left, top)
