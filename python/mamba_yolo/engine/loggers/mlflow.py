"""MLflow, on the server it is set up for (MLFLOW_TRACKING_URI). Test: tests/engine/test_loggers.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mamba_yolo.config import to_dict
from mamba_yolo.engine.loggers import Logger

if TYPE_CHECKING:
    from mamba_yolo.engine.callbacks import Run


class MLflow(Logger):
    """Options and figures in an experiment called as the folder of all runs; a resumed run goes on under its old id."""

    extra = "mlflow"

    def open(self, run: Run) -> None:
        """Begin a run, or go on with the one whose id lies in the folder."""
        import mlflow

        self.mlflow = mlflow
        known = run.folder / "mlflow_id.txt"
        mlflow.set_experiment(Path(run.config.project).resolve().name)
        old = known.read_text(encoding="utf-8").strip() if run.epoch and known.is_file() else None
        active = mlflow.start_run(run_id=old, run_name=run.folder.name)
        known.write_text(str(active.info.run_id), encoding="utf-8")
        if old is None:  # a server does not take options twice
            options = to_dict(run.config)
            mlflow.log_params({**{k: v for k, v in options.items() if k != "augment"}, **options["augment"]})

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Send the figures."""
        self.mlflow.log_metrics(figures, step=epoch)

    def close(self, best: dict[str, float]) -> None:
        """Send the best figures and end the run."""
        self.mlflow.log_metrics(best)
        self.mlflow.end_run()
