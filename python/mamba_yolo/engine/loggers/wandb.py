"""Weights & Biases. Test: tests/engine/test_loggers.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mamba_yolo.config import to_dict
from mamba_yolo.engine.loggers import Logger

if TYPE_CHECKING:
    from mamba_yolo.engine.callbacks import Run


class WandB(Logger):
    """Figures by epoch in a project called as the folder of all runs; a resumed run goes on under its old id."""

    extra = "wandb"

    def open(self, run: Run) -> None:
        """Begin a run, or go on with the one whose id lies in the folder."""
        import wandb

        known = run.folder / "wandb_id.txt"
        self.run = wandb.init(
            project=Path(run.config.project).resolve().name,
            name=run.folder.name,
            id=known.read_text(encoding="utf-8").strip() if run.epoch and known.is_file() else None,
            resume="allow",
            dir=str(run.folder),
            config=to_dict(run.config),
        )
        known.write_text(str(self.run.id), encoding="utf-8")

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Send the figures."""
        self.run.log(figures, step=epoch)

    def close(self, best: dict[str, float]) -> None:
        """Put the best figures into the summary."""
        self.run.summary.update(best)
        self.run.finish()
