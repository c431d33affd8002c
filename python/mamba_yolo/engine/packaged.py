"""Trained weights inside the package, by name: made by `make weights`, described in docs/model-card.md.

Test: tests/engine/test_packaged.py.
"""

from __future__ import annotations

from pathlib import Path

import mamba_yolo
from mamba_yolo.config import PACKAGED_MODEL

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")
BCCD_WEIGHTS = Path(mamba_yolo.__file__).parent / "assets" / "n-bccd.safetensors"


def weights_file(source: str | Path) -> Path | None:
    """The weights file that a model's name stands for: ours, or the path that it is; None for a preset."""
    if str(source) == PACKAGED_MODEL:
        return BCCD_WEIGHTS
    return Path(source) if str(source).endswith(WEIGHT_SUFFIXES) else None
