"""The blocks of Mamba-YOLO: stem, downsampling, local-spatial block, channel MLPs, ODSSBlock, C2f.

arXiv 2406.05835, section 3 and figures 3 to 5; every block computes what the released weights expect.
Test: tests/models/test_blocks.py.

Legend: B batch, C channels, H W map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_yolo.errors import ShapeError
from mamba_yolo.models.layers import (
    ConvNormAct,
    DepthwiseGelu,
    DropPath,
    LayerNorm2d,
    batch_norm,
    depthwise,
)
from mamba_yolo.models.recompute import recomputed

if TYPE_CHECKING:
    from collections.abc import Sequence

MLP_RATIO = 4


class SimpleStem(nn.Module):
    """Two stride-2 convolutions: image to a map at stride 4."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.to_half = ConvNormAct(3, out_channels // 2, 3, 2, activation=nn.GELU)
        self.to_quarter = ConvNormAct(out_channels // 2, out_channels, 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H/4, W/4)."""
        y: Tensor = self.to_quarter(self.to_half(images))
        return y


class VisionClueMerge(nn.Module):
    """Halve a map by stacking its four phases in channels, so that no value is lost, and mixing them.

    Phases (row, column) of a 2x2 cell are stacked as (0, 0), (1, 0), (0, 1), (1, 1); the weights are kept as 1x1.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.merge = ConvNormAct(4 * in_channels, out_channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C_out, H/2, W/2); H and W must be even."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ShapeError(f"a map to be halved must have even sides, got {x.shape[2]} x {x.shape[3]}; pad it")
        # A 1x1 kernel over stacked phases is a 2x2 kernel over the map itself: nothing is stacked in memory.
        weight, bias = self.merge.conv.weight, self.merge.conv.bias
        kernel = weight.reshape(len(weight), 2, 2, -1).permute(0, 3, 2, 1)
        y: Tensor = self.merge.activation(self.merge.norm(functional.conv2d(x, kernel, bias, stride=2)))
        return y


class LSBlock(nn.Module):
    """Local-spatial block: a depth-wise 3x3 and two 1x1 convolutions around a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = depthwise(channels)
        self.norm: nn.Module = batch_norm(channels)  # identity once folded
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + recomputed(self, self._mix, self.norm(self.depthwise(x)))

    def _mix(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(functional.gelu(self.hidden(x)))
        return y


class Mlp(nn.Module):
    """Two 1x1 convolutions (ablation of figure 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, MLP_RATIO * channels, 1)
        self.out = nn.Conv2d(MLP_RATIO * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y: Tensor = self.out(functional.gelu(self.hidden(x)))
        return y


class ConvMlp(Mlp):
    """The MLP with a depth-wise convolution before its activation (ablation of figure 5)."""

    residual = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.depthwise = DepthwiseGelu(MLP_RATIO * channels, residual=self.residual)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y: Tensor = self.out(self.depthwise(self.hidden(x)))
        return y


class ResConvMlp(ConvMlp):
    """The MLP with a depth-wise convolution in a residual (ablation of figure 5)."""

    residual = True


class GatedMlp(nn.Module):
    """Two projections, one activated, multiplied (ablation of figure 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * MLP_RATIO * channels // 3  # as many weights as the plain MLP
        self.hidden = nn.Conv2d(channels, 2 * hidden, 1)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        hidden, gate = self.hidden(x).chunk(2, dim=1)
        y: Tensor = self.out(functional.gelu(hidden) * gate)
        return y


class RGBlock(GatedMlp):
    """Residual gated block: the gated MLP with a residual depth-wise convolution (section 3.4)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.depthwise = DepthwiseGelu(self.out.in_channels, residual=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        hidden, gate = self.hidden(x).chunk(2, dim=1)
        y: Tensor = self.out(self.depthwise(hidden, gate))
        return y


class ODSSBlock(nn.Module):
    """Selective scan and channel MLP, each in a residual, after an input projection and a local block.

    Args:
        projection: (B, C_in, H, W) to (B, C, H, W); identity where nothing is to be changed.
        local: LSBlock, or identity without it.
        scans: SS2D layers, one after the other inside the first residual.
        mlp: the channel mixer of the second residual.
        channels: C.
        drop_path: probability of stochastic depth on both residuals.
    """

    def __init__(
        self,
        projection: nn.Module,
        local: nn.Module,
        scans: Sequence[nn.Module],
        mlp: nn.Module,
        *,
        channels: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.local = local
        self.scan_norm = LayerNorm2d(channels)
        self.scans = nn.Sequential(*scans)
        self.mlp_norm = LayerNorm2d(channels)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H, W)."""
        x = self.projection(x)
        x = x + self.drop_path(self.scans(self.scan_norm(self.local(x))))
        y: Tensor = x + self.drop_path(recomputed(self, self._mix, x))
        return y

    def _mix(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(self.mlp_norm(x))
        return y


class C2f(nn.Module):
    """Cross-stage block of convolutional bottlenecks, the neck of the paper's ablation.

    Half of the channels pass through `num_bottlenecks` pairs of 3x3 convolutions; all intermediate maps are joined.
    """

    def __init__(self, in_channels: int, out_channels: int, num_bottlenecks: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.split = ConvNormAct(in_channels, 2 * half, 1)
        pairs = [nn.Sequential(ConvNormAct(half, half, 3), ConvNormAct(half, half, 3)) for _ in range(num_bottlenecks)]
        self.bottlenecks = nn.ModuleList(pairs)
        self.join = ConvNormAct((2 + num_bottlenecks) * half, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H, W)."""
        maps = list(self.split(x).chunk(2, dim=1))
        for bottleneck in self.bottlenecks:
            maps.append(bottleneck(maps[-1]))
        y: Tensor = self.join(torch.cat(maps, dim=1))
        return y
