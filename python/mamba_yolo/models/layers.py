"""Small layers that every block is made of: convolution with norm, channel norm, stochastic depth, SPPF.

All batch norms use eps 1e-3 and momentum 0.03. Test: tests/models/test_blocks.py.

Legend: B batch, C channels, H W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_yolo.ops import depthwise_gelu

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.03
LAYER_NORM_EPS = 1e-6
SPPF_KERNEL = 5  # three chained 5x5 pools see 5, 9 and 13 cells


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the constants of this network."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


def depthwise(channels: int) -> nn.Conv2d:
    """3x3 convolution of every channel with its own filter, with bias."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class ConvNormAct(nn.Module):
    """Convolution padded by kernel // 2, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        bias: bool = False,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias)
        self.norm: nn.Module = batch_norm(out_channels)  # identity once folded
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H/stride, W/stride)."""
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y


class DepthwiseGelu(nn.Conv2d):
    """3x3 convolution of every channel with its own filter, with bias, and GELU in one pass."""

    bias: Tensor

    def __init__(self, channels: int, *, residual: bool = False) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)
        self.residual = residual

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to the same; the input added before the GELU if `residual`, times the gate if there is one."""
        return depthwise_gelu(x, self.weight, self.bias, gate, residual=self.residual)


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of a map; free of copies when the map is channels-last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x_BHWC = x.permute(0, 2, 3, 1)
        y_BHWC = functional.layer_norm(x_BHWC, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPS)
        return y_BHWC.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth: in training, drops the branch of whole images and scales the kept ones (arXiv 1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)


class SPPF(nn.Module):
    """Spatial pyramid pooling by three chained max-pools."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2, 1)
        self.expand = ConvNormAct(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        pooled = [self.reduce(x)]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], SPPF_KERNEL, stride=1, padding=SPPF_KERNEL // 2))
        y: Tensor = self.expand(torch.cat(pooled, dim=1))
        return y
