"""TensorBoard: event files in the run folder, for `tensorboard --logdir runs`. Test: tests/engine/test_loggers.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.engine.loggers import Logger

if TYPE_CHECKING:
    from mamba_yolo.engine.callbacks import Run


class TensorBoard(Logger):
    """Scalars by epoch; a resumed run goes on in a further file, which TensorBoard joins to the first."""

    extra = "tensorboard"

    def open(self, run: Run) -> None:
        """Begin a file of events."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.folder))

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Write and flush, so that curves move while the run does."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self, best: dict[str, float]) -> None:
        """One point per figure of the best weights."""
        for name, value in best.items():
            self.writer.add_scalar(name, value, 0)
        self.writer.close()
