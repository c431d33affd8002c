"""The words after a command, in every spelling, made uniform for tyro.

`epochs=3`, `--epochs 3`, `--epochs=3` → `--epochs=3`; `resume=True`, `--resume` → `--resume`; `classes=0,2`,
`--classes 0 2` → `--classes 0 2`; `weight-decay` is `weight_decay`; bare words are the
command's first options, as many as it allows. Test: tests/cli/test_keyvalue.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from mamba_yolo.checks import unknown_name
from mamba_yolo.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_ASSIGNMENT = re.compile(r"(?:--)?([A-Za-z][\w-]*)=(.*)", re.DOTALL)


def rewrite(words: Sequence[str], config_class: type[Any], num_bare: int = 1) -> list[str]:
    """Make the words of a command uniform.

    Args:
        words: what follows the command's name.
        config_class: the command's options.
        num_bare: how many words may stand without a name, for the first options in their order.

    Raises:
        UsageError: an unknown option; the message offers the nearest name.
        ConfigError: an option without its value, or a switch with a value that is neither true nor false.
    """
    kinds = _kinds(config_class)
    rest = deque(words)
    uniform: list[str] = []
    unnamed = deque(list(kinds)[:num_bare])
    while rest:
        word = rest.popleft()
        if assignment := _ASSIGNMENT.fullmatch(word):
            name = _known(assignment[1], kinds)
            uniform += _spell(name, kinds[name], _listed(assignment[2]) if _is_list(kinds[name]) else [assignment[2]])
        elif word.startswith("-"):
            name = _known(word, kinds)
            uniform += (
                ["--no-" + _dashed(name)]
                if _is_negated(word, kinds)
                else _spell(name, kinds[name], _values(name, kinds, rest))
            )
        elif not unnamed:
            raise UsageError(f"unexpected {word!r}; options are written as name=value or --name value")
        else:
            name = unnamed.popleft()
            uniform += _spell(name, kinds[name], [word])
    return uniform


def _kinds(config_class: type[Any]) -> dict[str, str]:
    """Option name to the text of its type; nested options count as their own."""
    kinds: dict[str, str] = {}
    for field in dataclasses.fields(config_class):
        inner = field.default_factory
        kinds.update(_kinds(inner) if dataclasses.is_dataclass(inner) else {field.name: str(field.type)})
    return kinds


def _is_list(kind: str) -> bool:
    return kind.startswith("tuple")


def _is_negated(word: str, kinds: dict[str, str]) -> bool:
    return word.startswith("--no-") and _undashed(word) not in kinds


def _known(word: str, kinds: dict[str, str]) -> str:
    """The option that a word names."""
    name = _undashed(word)
    if name not in kinds and kinds.get(name.removeprefix("no_")) == "bool":
        return name.removeprefix("no_")
    if name not in kinds:
        raise UsageError(unknown_name(name, kinds))
    return name


def _undashed(word: str) -> str:
    return word.lstrip("-").replace("-", "_")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _values(name: str, kinds: dict[str, str], rest: deque[str]) -> list[str]:
    """Take the words that belong to an option written as --name."""
    if kinds[name] == "bool":
        return [rest.popleft()] if rest and rest[0].lower() in _TRUE | _FALSE else ["true"]
    if _is_list(kinds[name]):
        values: list[str] = []
        while rest and not rest[0].startswith("--") and not _ASSIGNMENT.fullmatch(rest[0]):
            values += _listed(rest.popleft())
        return values
    if not rest:
        raise ConfigError(f"--{_dashed(name)} needs a value")
    return [rest.popleft()]


def _listed(text: str) -> list[str]:
    """Items of `0,2`, `[0, 2]` or `(0, 2)`."""
    return [item.strip(" '\"") for item in text.strip("[]() ").split(",") if item.strip()]


def _spell(name: str, kind: str, values: list[str]) -> list[str]:
    """An option in the one spelling that tyro gets."""
    option = "--" + _dashed(name)
    if _is_list(kind):
        return [option, *values]
    if kind != "bool":
        return [f"{option}={values[0]}"]
    if values[0].lower() not in _TRUE | _FALSE:
        raise ConfigError(f"{name} must be True or False, got {values[0]!r}")
    return [option if values[0].lower() in _TRUE else "--no-" + _dashed(name)]
