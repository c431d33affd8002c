"""`mamba-yolo check`: every fault of a data set in one table. Test: tests/cli/test_check.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.config import check_given
from mamba_yolo.data import check_dataset

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import CheckConfig


def run(config: CheckConfig) -> Outcome:
    """Look at labels and images; exit code 1 when there are errors."""
    check_given("data", config.data)
    report = check_dataset(config.data)
    rows = [("error", *problem) for problem in report.errors] + [("warning", *problem) for problem in report.warnings]
    shown = [table("", ("kind", "file", "line or id", "what", "what is done"), rows)] if rows else []
    counts = f"{len(report.errors)} errors, {len(report.warnings)} warnings"
    return Outcome([*shown, f"{config.data}: {counts}"], report.to_dict(), 1 if report.errors else 0)
