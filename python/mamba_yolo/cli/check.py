"""`mamba-yolo check`: what is in a data set, every fault of it in one table, and on request what training will see.

Test: tests/cli/test_check_convert.py.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.data import Loader, check_dataset, open_dataset
from mamba_yolo.engine.callbacks import BATCHES_SHOWN
from mamba_yolo.engine.pictures import MOST_IMAGES, draw_batch
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.visual.write import write_picture

if TYPE_CHECKING:
    from pathlib import Path

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
    written = _show(config) if config.show else []
    shown += [f"wrote {path}" for path in written]
    data = report.to_dict() | ({"pictures": [str(path) for path in written]} if config.show else {})
    return Outcome(shown, data, 1 if report.errors else 0)


def _show(config: CheckConfig) -> list[Path]:
    """Pictures of the first training batches, as train would make them."""
    dataset = open_dataset(config.data, "train")
    loader = Loader(dataset, config.imgsz, MOST_IMAGES, seed=config.seed, augment=config.augment)
    batches = itertools.islice(loader.epoch(0), BATCHES_SHOWN)
    sheets = [draw_batch(batch, dataset.names) for batch in batches]
    folder = new_run_folder(config.project, config.name)
    return [write_picture(sheet, folder / f"train_batch{i}.jpg") for i, sheet in enumerate(sheets)]


def _counted(value: object) -> object:
    """A number as it is; counts by name on one line, the largest first, the tail as a count."""
    if not isinstance(value, dict):
        return value
    ordered = sorted(value.items(), key=lambda item: -item[1])
    line = ", ".join(f"{name} {count}" for name, count in ordered[:MOST_NAMES])
    return line + (f", and {len(ordered) - MOST_NAMES} more" if len(ordered) > MOST_NAMES else "")
