"""Checks of single values that users give: one line says what came, what was expected, what to do next.

Standard library only. Tested in tests/test_config.py.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

STRIDE_MULTIPLE_PX = 32  # the coarsest level; image sides must be multiples of it


def check_given(name: str, value: str) -> None:
    """Raise ConfigError when an option that has no default was left out."""
    if not value:
        raise ConfigError(f"{name} is missing; give it as {name}=... (or --{name} ...)")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high (NaN fails too)."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, got {value}")


def check_imgsz(imgsz: int) -> None:
    """Raise ConfigError unless imgsz is a positive multiple of 32."""
    if imgsz < STRIDE_MULTIPLE_PX or imgsz % STRIDE_MULTIPLE_PX:
        near = max(round(imgsz / STRIDE_MULTIPLE_PX), 1) * STRIDE_MULTIPLE_PX
        raise ConfigError(f"imgsz must be a positive multiple of {STRIDE_MULTIPLE_PX}, got {imgsz}; try {near}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """One line about an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"unknown option {name!r}{hint}"
