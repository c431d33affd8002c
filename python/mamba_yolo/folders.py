"""Folders of the user's that this package writes to. Test: tests/test_folders.py."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where caches lie: MAMBA_YOLO_CACHE, else `mamba-yolo` in the user's cache folder."""
    stated = os.environ.get("MAMBA_YOLO_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mamba-yolo"
