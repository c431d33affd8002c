"""Batch norms whose statistics are those of the whole batch, over all ranks (`sync_bn=True`).

n = sum n_r, mean = sum n_r mean_r / n, var = sum n_r (var_r + mean_r²) / n - mean², in float64, so that the difference
loses nothing; one message per norm. torch's own SyncBatchNorm is for GPUs only. Test: tests/engine/test_ranks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mamba_yolo.engine.ranks import Ranks

BLANK_PX = 64


class SyncedNorm(nn.BatchNorm2d):
    """A batch norm in the place of another, with its parameters and buffers.

    Attributes:
        counts: whether the images of this rank count; a rank without images sends a blank one that does not.
    """

    def __init__(self, norm: nn.BatchNorm2d, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.training, self.ranks, self.counts = norm.training, ranks, True

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) normalised; in eval mode as any batch norm."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        var_C, mean_C = torch.var_mean(x, (0, 2, 3), correction=0)
        n = float(x.numel() // x.shape[1]) if self.counts else 0.0
        mean_C, var_C = mean_C.double(), var_C.double()
        local = torch.cat([mean_C * n, (var_C + mean_C**2) * n, mean_C.new_tensor([n])])
        sums = self.ranks.total_with_gradient(local)
        total = sums[-1].detach()
        mean_C, square_C = (sums[:-1] / total).chunk(2)
        var_C = (square_C - mean_C**2).clamp(min=0)
        self._follow(mean_C.detach(), var_C.detach(), total)
        scale_C = self.weight * (var_C + self.eps).rsqrt().float()
        centred = x - mean_C.float()[:, None, None]  # before the scale: a large mean would swallow what varies
        return (centred * scale_C[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def _follow(self, mean_C: Tensor, var_C: Tensor, n: Tensor) -> None:
        """Running statistics, the variance unbiased as in torch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C.float(), self.momentum)
            self.running_var.lerp_((var_C * n / (n - 1).clamp(min=1)).float(), self.momentum)


def synchronise_norms(model: nn.Module, ranks: Ranks) -> None:
    """Put a `SyncedNorm` in the place of every batch norm; names and tensors stay as they are."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SyncedNorm(child, ranks))


def blank_forward(model: nn.Module, device: torch.device) -> Tensor:
    """A loss of zero from a blank image that counts nowhere: the norms of other ranks wait for this one's answer."""
    norms = [m for m in model.modules() if isinstance(m, SyncedNorm)]
    if not norms:
        return torch.zeros((), device=device, requires_grad=True)
    for norm in norms:
        norm.counts = False
    raw = model(torch.zeros(1, 3, BLANK_PX, BLANK_PX, device=device))
    for norm in norms:
        norm.counts = True
    maps = [*raw.levels, *(m for m in (raw.mask_coefs, raw.protos) if m is not None)]
    return sum((m.float().sum() for m in maps), torch.zeros((), device=device)) * 0
