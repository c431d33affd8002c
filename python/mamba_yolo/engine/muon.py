"""Muon: filters before batch norms move along their momentum with singular values made about one, the rest by SGD.

A gradient of a filter bank is dominated by few directions; once orthogonalised, a step teaches every direction alike,
so a run that is short of steps learns more in each. Only filters whose output is normalised: steps of this size make
others grow without limit, as AdamW's at a like rate do (docs/adr/009-muon-for-short-runs.md). Method: Keller Jordan,
2024; size of a step, such that it is one of AdamW: arXiv 2502.16982, section 2.2. Oracle of the test is
torch.optim.Muon, which takes matrices only and rounds to bfloat16: tests/engine/test_muon.py.

Shapes: O outputs, I inputs, k side of a filter, n filter banks of one shape, r <= c sides of a matrix.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mamba_yolo.models.layers import ConvNormAct

if TYPE_CHECKING:
    from collections.abc import Iterable

QUINTIC = (3.4445, -4.7750, 2.0315)  # a s + b s^3 + c s^5 takes every s in (0, 1] near one when applied again and again
ITERATIONS = 5
RMS_OF_ADAMW = 0.2  # of what AdamW adds to a weight, in units of its rate
RATE_OF_FILTERS = 1.6  # of that of everything else
LEAST_SIDE = 16  # narrower matrices, such as the last layer of three classes, have few directions to balance
SMALLEST_NORM = 1e-7
_rest_by_sgd = inspect.unwrap(torch.optim.SGD.step)  # without the guards that import torch's compiler


class Muon(torch.optim.SGD):
    """SGD with Nesterov momentum that treats some convolutions as matrices (O, I k k), at RATE_OF_FILTERS.

    Args:
        groups: parameters and their decay.
        filters: weights (O, I, k, k) among them that are matrices, as `normalised_filters` finds them.
        lr: rate of everything else.
        momentum: of both.
    """

    def __init__(self, groups: list[dict[str, Any]], filters: Iterable[Tensor], lr: float, momentum: float) -> None:
        self.filters = set(filters)
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        groups = self.param_groups
        for group in groups:
            moving = [p for p in group["params"] if p.grad is not None and p in self.filters]
            self._step_banks(moving, group["lr"] * RATE_OF_FILTERS, group["momentum"], group["weight_decay"])
        self.param_groups = [{**g, "params": [p for p in g["params"] if p not in self.filters]} for g in groups]
        _rest_by_sgd(self, closure)
        self.param_groups = groups

    def _step_banks(self, banks: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        for same in _by_shape(banks):
            gradients = torch.stack([bank.grad.flatten(1) for bank in same if bank.grad is not None])
            averages = [self._average(bank).flatten(1) for bank in same]
            torch._foreach_lerp_(averages, gradients.unbind(), 1 - momentum)
            ahead = torch.lerp(gradients, torch.stack(averages), momentum)  # Nesterov
            size = lr * RMS_OF_ADAMW * max(ahead.shape[1:]) ** 0.5
            steps = orthogonalised(ahead) * -size
            torch._foreach_mul_(same, 1 - lr * weight_decay)
            torch._foreach_add_(same, steps.unflatten(2, same[0].shape[1:]).unbind())

    def _average(self, bank: Tensor) -> Tensor:
        state: dict[str, Tensor] = self.state[bank]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(bank, memory_format=torch.contiguous_format)
        return state["momentum_buffer"]


def normalised_filters(model: nn.Module) -> list[Tensor]:
    """Weights (O, I, k, k) of dense convolutions right before a batch norm, between at least LEAST_SIDE channels."""
    weights: list[Tensor] = [
        m.conv.weight for m in model.modules() if isinstance(m, ConvNormAct) and m.conv.groups == 1
    ]
    return [w for w in weights if min(w.shape[0], w[0].numel()) >= LEAST_SIDE]


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (n, r, c) with the same singular vectors and singular values between about 0.7 and 1.2."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    a, b, c = QUINTIC
    x: Tensor = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_shape(banks: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Those that one batched product can treat."""
    groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for bank in banks:
        groups[bank.shape].append(bank)
    return groups.values()
