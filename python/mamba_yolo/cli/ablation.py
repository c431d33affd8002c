"""`mamba-yolo benchmark --suite ablation`: the papers' ablations, trained on your data; without data, their counts.

Test: tests/cli/test_ablation.py.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mamba_yolo.cli.console import Outcome
from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.ablation import measured, run_rows
from mamba_yolo.engine.ablation_report import STEM, counts_markdown, to_dict, write_files
from mamba_yolo.models.ablation import chosen_rows

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import AblationConfig


def run(config: AblationConfig) -> Outcome:
    """Count the rows, or train them and show every row that is finished."""
    rows = chosen_rows(config.only)
    shared = TrainConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)})
    if not config.data:
        return Outcome([counts_markdown(rows, config.model), "data=... trains them"], to_dict(rows, shared, []))
    folder = run_rows(shared, rows, config.seeds, finished=lambda folder: write_files(folder, shared))
    runs = measured(folder)
    done = [row for row in chosen_rows(()) if any(r.row == row.name for r in runs)]
    shown = (folder / f"{STEM}.md").read_text(encoding="utf-8")
    return Outcome(
        [shown, f"also {folder / STEM}.csv, .json and .svg"], {"folder": str(folder), **to_dict(done, shared, runs)}
    )
