"""Batch-norm statistics that are usable in short runs.

A running average with momentum m starts at mean 0 and variance 1 and lags behind the weights by about 1 / m batches, 33
for the network's 0.03. In a short run weights move fast: n, BCCD, 160 px, 13 batches an epoch, Muon, AP of validation
after 8 of 25 epochs is 0.001 with 0.03, 0.263 with 0.1, 0.282 with 0.3, and 0.29 with statistics measured anew. Short
runs take 0.3, whose noise the averaging of weights takes out again, and every run averages its first batches plainly
(momentum 1 / n). Test: tests/engine/test_norms.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from mamba_yolo.engine.freeze import is_frozen

if TYPE_CHECKING:
    from torch import nn

SHORT_RUN_MOMENTUM = 0.3


class NormMomentum:
    """Sets the momentum of every batch norm before a training batch.

    Args:
        model: its norms keep their own momentum as the smallest.
        short_run: the run is one that `Plan` calls short.
    """

    def __init__(self, model: nn.Module, *, short_run: bool) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and not is_frozen(m)]
        self.norms = [(m, m.momentum) for m in norms if m.momentum is not None]
        self.least = SHORT_RUN_MOMENTUM if short_run else 0.0
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
            norm.momentum = max(usual, self.least, 1 / (self.seen + 1))
        self.seen += 1
