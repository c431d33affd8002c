"""`mamba-yolo train`. Test: tests/cli/test_demo.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome
from mamba_yolo.cli.val import metrics_tables
from mamba_yolo.engine.train import train

if TYPE_CHECKING:
    from mamba_yolo.config import TrainConfig


def run(config: TrainConfig) -> Outcome:
    """Train, then show the figures of the best weights."""
    if not config.resume:  # a resumed run knows its data
        check_given("data", config.data)
    result = train(config)
    return Outcome(
        [
            *metrics_tables(result.best_metrics),
            f"best weights: {result.best}",
            *([f"report: {result.run_dir / 'report.html'}"] if config.plots else []),
            f"next: mamba-yolo predict model={result.best} source=PHOTO_OR_FOLDER",
        ]
    )
