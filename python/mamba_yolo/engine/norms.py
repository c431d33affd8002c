"""Batch-norm statistics that are usable in short runs.

A running average with momentum m starts at mean 0 and variance 1 and forgets that start over 1 / m batches, 33 for the
network's 0.03: a run of 60 batches would be validated with statistics that are still a sixth initial value. Here the
first batches are plainly averaged (momentum 1 / n), and the window is never more than a tenth of the run; runs of more
than 333 batches follow the release once 33 are seen. Measured on the packaged data set (`n`, 160 px, 10 epochs of 6
batches): AP50 0.01 with 0.03 throughout, 0.19 this way. Test: tests/engine/test_norms.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from mamba_yolo.engine.freeze import is_frozen

if TYPE_CHECKING:
    from torch import nn

BATCHES_IN_RUN = 10  # windows of the statistics that fit into a run


class NormMomentum:
    """Sets the momentum of every batch norm before a training batch.

    Args:
        model: its norms keep their own momentum as the smallest.
        total_batches: batches of the whole run.
    """

    def __init__(self, model: nn.Module, total_batches: int) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and not is_frozen(m)]
        self.norms = [(m, m.momentum) for m in norms if m.momentum is not None]
        self.floor = min(BATCHES_IN_RUN / max(total_batches, 1), 1.0)
        self.seen: int | None = None

    def count_again(self) -> None:
        """Read the count from the weights, as after a resume: a batch was not finished."""
        self.seen = None

    def next_batch(self) -> None:
        """Momentum of the coming batch; the count goes on from that of the weights."""
        if not self.norms:
            return
        if self.seen is None:  # read once, after a resume has put its weights in
            self.seen = int(self.norms[0][0].num_batches_tracked or 0)
        for norm, usual in self.norms:
            norm.momentum = max(usual, self.floor, 1 / (self.seen + 1))
        self.seen += 1
