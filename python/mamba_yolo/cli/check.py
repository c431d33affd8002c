"""`mamba-yolo check`: what is in a data set, and every fault of it in one table.

Test: tests/cli/test_check_convert.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.data import check_dataset
from mamba_yolo.engine.progress import Reporter

if TYPE_CHECKING:
    from rich.table import Table

    from mamba_yolo.cli.commands import CheckConfig

MOST_NAMES = 12  # what a person reads; --json has them all


def run(config: CheckConfig) -> Outcome:
    """Read every label and decode every image; exit code 1 when there are errors."""
    check_given("data", config.data)
    with Reporter().bar("looking at images") as bar:
        report = check_dataset(config.data, progress=lambda done, total: bar.advance(1))
    faults = [("error", line) for line in report.errors] + [("warning", line) for line in report.warnings]
    whats = list(dict.fromkeys(what for counts in report.splits.values() for what in counts))
    rows = [(what, *(_counted(counts[what]) for counts in report.splits.values())) for what in whats]
    title = f"{report.path} ({report.format or 'format not recognised'})"
    shown: list[Table | str] = [table(title, ("", *report.splits), rows)]
    if faults:
        shown.append(table("", ("kind", "where, what, and what is done"), faults))
    shown.append(f"{len(report.errors)} errors, {len(report.warnings)} warnings")
    return Outcome(shown, report.to_dict(), 1 if report.errors else 0)


def _counted(value: object) -> object:
    """A number as it is; counts by name on one line, the largest first, the tail as a count."""
    if not isinstance(value, dict):
        return value
    ordered = sorted(value.items(), key=lambda item: -item[1])
    line = ", ".join(f"{name} {count}" for name, count in ordered[:MOST_NAMES])
    return line + (f", and {len(ordered) - MOST_NAMES} more" if len(ordered) > MOST_NAMES else "")
