"""Hooks into a training run; override what you need, the rest does nothing.

Callbacks receive plain values and look only: nothing they return is used. Test: tests/engine/test_train.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.types import Batch

BATCHES_SHOWN = 3  # first batches of a run that callbacks see


@dataclass(frozen=True)
class Run:
    """What a run is about.

    Attributes:
        folder: where everything is written.
        config: its options.
        names: class names.
        boxes_xywh_norm: (n, 4) every training box, centre and size as fractions of its image.
        classes: (n,) their classes.
        epoch: finished epochs, of a resumed run.
    """

    folder: Path
    config: TrainConfig
    names: dict[int, str]
    boxes_xywh_norm: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    epoch: int = 0


class Callback:
    """Base of callbacks."""

    def on_run_start(self, run: Run) -> None:
        """Called before the first epoch, also of a resumed run."""

    def on_batch(self, index: int, batch: Batch) -> None:
        """Called with the first three training batches of a run."""

    def on_validation_batch(
        self, batch: Batch, detections: list[npt.NDArray[np.float32]], masks: list[list[Rle]] | None
    ) -> None:
        """Called with the first batch of each validation.

        Args:
            batch: letterboxed images and targets.
            detections: per image (n, 6) x1 y1 x2 y2 score class in pixels of the network input.
            masks: per image n run lengths in pixels of the network input; None for a detector.
        """

    def on_epoch_end(self, epoch: int, row: dict[str, float], metrics: Metrics | None) -> None:
        """Called after each epoch, counted from 1, with its row of results.csv; metrics where it was validated."""

    def on_run_end(self, folder: Path, metrics: Metrics) -> None:
        """Called at the very end with the metrics of the best weights."""


def describe(row: dict[str, Any]) -> str:
    """A row of results in one line."""
    names = {k: k.removeprefix("metrics/") for k in row if k.startswith("metrics/")}
    shown = {f"mask {n[:-3]}" if n.endswith("(M)") else n.removesuffix("(B)"): row[k] for k, n in names.items()}
    return ", ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)
