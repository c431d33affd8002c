"""Files that are either the old one or the new one, whatever happens: write beside, flush to disk, rename.

Test: tests/engine/test_safefile.py.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from mamba_yolo.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then put it in the place of `path`.

    The temporary name is fixed, so what a killed process left behind is overwritten by the next save.

    Raises:
        SaveError: nothing could be written; the file that was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        _flush_to_disk(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - one name that a test can make fail
        _flush_to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        raise SaveError(
            f"cannot save {path}: {error}; the previous file, if there was one, is untouched: free space and try again"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # of a folder that turned read-only, too
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically (UTF-8, newlines as given)."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


def _flush_to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
