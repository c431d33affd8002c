"""Averaged weights: after every optimizer step, average += (1 - d) (weights - average).

d = decay * (1 - exp(-n / tau)), n counts updates. Floating-point buffers (batch-norm statistics) are averaged the same
way, counters are copied: the average must be usable as it stands. Test: tests/engine/test_ema.py.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class Ema:
    """A model whose weights follow another's.

    Attributes:
        module: the averaged model, in eval mode, without gradients.
        updates: how often it was updated.
    """

    def __init__(self, model: nn.Module, decay: float, tau: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.tau = tau
        self.updates = 0

    def decay_at(self, updates: int) -> float:
        """Share of the old average that is kept at a given update."""
        return self.decay * (1 - math.exp(-updates / self.tau))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model."""
        self.updates += 1
        share = 1 - self.decay_at(self.updates)
        current = model.state_dict()
        floats: list[tuple[Tensor, Tensor]] = []
        others: list[tuple[Tensor, Tensor]] = []
        for name, value in self.module.state_dict().items():
            (floats if value.dtype.is_floating_point else others).append((value, current[name].to(value.dtype)))
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], share)
        for mine, theirs in others:
            mine.copy_(theirs)
