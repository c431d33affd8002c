"""What a command hands back, and the two ways of showing it: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


class Outcome(NamedTuple):
    """End of a command.

    Attributes:
        shown: rich tables and lines of text for people.
        data: the same as plain values, for --json.
        code: exit code.
    """

    shown: Sequence[Table | str] = ()
    data: dict[str, Any] | None = None
    code: int = 0


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A rich table; columns after the first stand on the right when their cells are numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def show(outcome: Outcome) -> None:
    """Print tables and lines on standard output."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())
    with console.capture() as captured:  # written by hand: rich ends the program itself when a pipe is closed
        for item in outcome.shown:
            console.print(item)
    sys.stdout.write(captured.get())


def show_json(outcome: Outcome) -> None:
    """Print the plain values as one JSON object on standard output."""
    sys.stdout.write(json.dumps(outcome.data, allow_nan=False) + "\n")


def complain(line: str) -> None:
    """One line on standard error."""
    sys.stderr.write(" ".join(line.split()) + "\n")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
