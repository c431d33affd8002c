"""Neck: path aggregation (PAFPN) over any number of levels: coarse to fine, then fine to coarse.

arXiv 2406.05835, figure 2. Test: tests/models/test_goldens.py.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_yolo.models.layers import ConvNormAct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class PathAggregation(nn.Module):
    """Maps of the backbone to maps of the same sizes that have seen each other.

    Args:
        channels: of each level, finest first.
        block: makes a block from its input and output channels.
    """

    def __init__(self, channels: Sequence[int], block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        fine_to_coarse = list(itertools.pairwise(channels))
        self.top_down = nn.ModuleList(block(coarse + fine, fine) for fine, coarse in reversed(fine_to_coarse))
        self.downsamples = nn.ModuleList(ConvNormAct(fine, fine, 3, 2) for fine, _ in fine_to_coarse)
        self.bottom_up = nn.ModuleList(block(fine + coarse, coarse) for fine, coarse in fine_to_coarse)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map per level, finest first, to the same."""
        coarse_first = [maps[-1]]
        for block, lateral in zip(self.top_down, reversed(maps[:-1]), strict=True):
            upsampled = functional.interpolate(coarse_first[-1], scale_factor=2.0, mode="nearest")
            coarse_first.append(block(torch.cat([upsampled, lateral], dim=1)))
        out = [coarse_first.pop()]
        for downsample, block in zip(self.downsamples, self.bottom_up, strict=True):
            out.append(block(torch.cat([downsample(out[-1]), coarse_first.pop()], dim=1)))
        return out
