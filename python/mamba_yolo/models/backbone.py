"""Backbone: stem, four stages of ODSSBlocks with downsampling between them, SPPF (arXiv 2406.05835, figure 2).

Test: tests/models/test_goldens.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Backbone(nn.Module):
    """Image to four maps.

    Args:
        stem: image to stride 4.
        stages: four, each keeps its stride.
        downsamples: three, between the stages, each halves the map.
        pooling: what follows the last stage.
    """

    def __init__(
        self, stem: nn.Module, stages: Sequence[nn.Module], downsamples: Sequence[nn.Module], pooling: nn.Module
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.downsamples = nn.ModuleList(downsamples)
        self.pooling = pooling

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps at strides 4, 8, 16, 32."""
        maps = [self.stages[0](self.stem(images))]
        for downsample, stage in zip(self.downsamples, list(self.stages)[1:], strict=True):
            maps.append(stage(downsample(maps[-1])))
        maps[-1] = self.pooling(maps[-1])
        return maps
