"""Experiment trackers, one file each. A missing package or a server's error is one line, and training goes on.

Nothing is sent anywhere unless the user names a tracker. Test: tests/engine/test_loggers.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mamba_yolo.engine.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mamba_yolo.engine.callbacks import Run
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.engine.progress import Reporter


class Logger(Callback, ABC):
    """Base of the trackers: they say how to open, log and close, and may fail at any of it.

    Attributes:
        extra: what to install, as in `pip install 'mamba-yolo[extra]'`.
    """

    extra: str

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.off = False

    @abstractmethod
    def open(self, run: Run) -> None:
        """Begin a run, or go on with one."""

    @abstractmethod
    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Send the figures of an epoch, counted from 1."""

    @abstractmethod
    def close(self, best: dict[str, float]) -> None:
        """Send the figures of the best weights and end the run."""

    def on_run_start(self, run: Run) -> None:
        """Open."""
        self._try(lambda: self.open(run))

    def on_epoch_end(self, epoch: int, row: dict[str, float], metrics: Metrics | None) -> None:
        """Log the row; trackers do not take brackets in names."""
        figures = {name.removesuffix("(B)"): float(value) for name, value in row.items() if name != "epoch"}
        self._try(lambda: self.log(epoch, figures))

    def on_run_end(self, folder: Path, metrics: Metrics) -> None:
        """Close."""
        self._try(lambda: self.close({f"best/{name}": value for name, value in metrics.figures().items()}))

    def _try(self, action: Callable[[], None]) -> None:
        """Do it, or say why not and never try again."""
        if self.off:
            return
        try:
            action()
        except ImportError as error:
            self._stop(f"{error}; pip install 'mamba-yolo[{self.extra}]'")
        except Exception as error:  # noqa: BLE001  (whatever a tracker's server does, the training is worth more)
            self._stop(f"{type(error).__name__}: {error}")

    def _stop(self, reason: str) -> None:
        self.off = True
        self.reporter.say(f"{self.extra}: {' '.join(reason.split())}; training goes on without it")
