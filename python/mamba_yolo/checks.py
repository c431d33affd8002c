"""Checks of single values that users give: one line says what came, what was expected, what to do next.

Standard library only. Tested in tests/test_config.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from typing import TYPE_CHECKING, Any, get_args

from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from dataclasses import Field

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


def accept_false(config: Any, name: str) -> None:
    """Let a field of a frozen config take False, which is what YOLO users write for "off"."""
    if getattr(config, name) in (False, "False", "false"):
        object.__setattr__(config, name, "off")


def check_literals(config: Any) -> None:
    """Raise ConfigError when a field whose type names a list of values, in the config's module, holds another."""
    types = vars(sys.modules[type(config).__module__])
    for field in dataclasses.fields(config):
        allowed = get_args(types.get(str(field.type)))
        if allowed and (value := getattr(config, field.name)) not in allowed:
            raise ConfigError(f"{field.name} must be one of {', '.join(allowed)}, got {value!r}")


def check_types(fields: Mapping[str, Field[Any]], chosen: Mapping[str, Any]) -> None:
    """Compare plain scalar values with their annotations, so that epochs='3' fails here and not later."""
    expected = {"int": int, "float": (int, float), "bool": bool, "str": str}
    for name, value in chosen.items():
        kind = expected.get(str(fields[name].type))
        wrong_bool = isinstance(value, bool) and fields[name].type in ("int", "float")
        if kind is not None and (wrong_bool or not isinstance(value, kind)):  # type: ignore[arg-type]
            raise ConfigError(f"{name} must be of type {fields[name].type}, got {value!r}")
