"""Heads: decoupled, anchor-free boxes and classes; mask coefficients and prototypes for segmentation.

Raw output per level: 4 x 16 box bins (left, top, right, bottom), then class logits; `decode` makes boxes of them.
Test: tests/models/test_goldens.py.

Legend: B batch, H W map, A anchors of all levels, nc classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mamba_yolo.boxes import NUM_BINS
from mamba_yolo.models.layers import ConvNormAct

if TYPE_CHECKING:
    from collections.abc import Sequence

NUM_MASK_COEFS = 32
MIN_BOX_CHANNELS = 64
MAX_CLASS_CHANNELS = 100
BOX_BIAS = 1.0
PRIOR_OBJECTS = 5  # objects expected in an image of PRIOR_IMAGE_PX, for the first class scores
PRIOR_IMAGE_PX = 640


def branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions and a 1x1: one output of one level."""
    return nn.Sequential(
        ConvNormAct(in_channels, hidden, 3), ConvNormAct(hidden, hidden, 3), nn.Conv2d(hidden, out_channels, 1)
    )


class DetectHead(nn.Module):
    """Box and class branches per level.

    Args:
        channels: of each level, finest first.
        num_classes: nc.
        strides: of each level in pixels; set the first class scores.

    Attributes:
        bins: (16,) distances in cells that the bins stand for. Fixed, and a parameter only because it is one in the
            released weights, where it is part of every published parameter count.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        box_hidden = max(MIN_BOX_CHANNELS, channels[0] // 4)
        class_hidden = max(channels[0], min(num_classes, MAX_CLASS_CHANNELS))
        self.box_branches = nn.ModuleList(branch(c, box_hidden, 4 * NUM_BINS) for c in channels)
        self.class_branches = nn.ModuleList(branch(c, class_hidden, num_classes) for c in channels)
        self.bins = nn.Parameter(torch.arange(NUM_BINS, dtype=torch.get_default_dtype()), requires_grad=False)
        for box, classes, stride in zip(self.box_branches, self.class_branches, strides, strict=True):
            prior = math.log(PRIOR_OBJECTS / num_classes / (PRIOR_IMAGE_PX / stride) ** 2)
            nn.init.constant_(box.get_parameter("2.bias"), BOX_BIAS)
            nn.init.constant_(classes.get_parameter("2.bias"), prior)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One (B, C, H, W) map per level to one (B, 64 + nc, H, W) map per level."""
        branches = zip(self.box_branches, self.class_branches, maps, strict=True)
        return [torch.cat([box(x), classes(x)], dim=1) for box, classes, x in branches]


class MaskHead(nn.Module):
    """Mask coefficients per anchor and the prototypes they mix.

    Args:
        channels: of each level, finest first.
        proto_level: index of the level at stride 8, which the prototypes are made from.
        proto_channels: hidden channels of the prototypes.
    """

    def __init__(self, channels: Sequence[int], proto_level: int, proto_channels: int) -> None:
        super().__init__()
        hidden = max(channels[0] // 4, NUM_MASK_COEFS)
        self.coef_branches = nn.ModuleList(branch(c, hidden, NUM_MASK_COEFS) for c in channels)
        self.proto_level = proto_level
        self.prototypes = Prototypes(channels[proto_level], proto_channels)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map per level to coefficients (B, 32, A) and prototypes (B, 32, H/4, W/4)."""
        coefs = [branch(x).flatten(2) for branch, x in zip(self.coef_branches, maps, strict=True)]
        return torch.cat(coefs, dim=2), self.prototypes(maps[self.proto_level])


class Prototypes(nn.Module):
    """Stride 8 to 32 prototype masks at stride 4."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.before = ConvNormAct(in_channels, hidden, 3)
        self.upsample = nn.ConvTranspose2d(hidden, hidden, 2, 2)
        self.after = ConvNormAct(hidden, hidden, 3)
        self.out = ConvNormAct(hidden, NUM_MASK_COEFS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 32, 2H, 2W)."""
        y: Tensor = self.out(self.after(self.upsample(self.before(x))))
        return y
