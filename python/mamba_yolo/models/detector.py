"""The detector: backbone, neck and head, put together from a `DetectorConfig` as plain modules.

Test: tests/models/test_detector.py, tests/models/test_goldens.py.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mamba_yolo.checks import STRIDE_MULTIPLE_PX
from mamba_yolo.errors import ShapeError
from mamba_yolo.models.backbone import Backbone
from mamba_yolo.models.blocks import (
    C2f,
    ConvMlp,
    GatedMlp,
    LSBlock,
    Mlp,
    ODSSBlock,
    ResConvMlp,
    RGBlock,
    SimpleStem,
    VisionClueMerge,
)
from mamba_yolo.models.head import DetectHead, MaskHead
from mamba_yolo.models.layers import SPPF, ConvNormAct
from mamba_yolo.models.neck import PathAggregation
from mamba_yolo.models.ss2d import SS2D
from mamba_yolo.types import RawDetections

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamba_yolo.config import DetectorConfig

STAGE_CHANNELS = (128, 256, 512, 1024)  # before the width factor; strides 4, 8, 16, 32
CHANNEL_MULTIPLE = 8
NECK_DEPTH = 3  # before the depth factor
STAGE_STRIDES = (4, 8, 16, 32)
PROTO_STRIDE_PX = 8
FIRST_STAGE = {"p3-p5": 1, "p2-p5": 0}  # the stage of the finest level the head sees
CHANNEL_MLPS: dict[str, Callable[[int], nn.Module]] = {
    "rg": RGBlock,
    "mlp": Mlp,
    "conv_mlp": ConvMlp,
    "res_conv_mlp": ResConvMlp,
    "gated_mlp": GatedMlp,
}


class Detector(nn.Module):
    """Mamba-YOLO: images to raw detections.

    Attributes:
        config: what it was built from.
        strides: of each level in pixels, finest first.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        first = FIRST_STAGE[config.pyramid]
        channels = scaled_channels(config)
        levels = channels[first:]
        self.config = config
        self.strides: tuple[int, ...] = STAGE_STRIDES[first:]
        self.backbone = build_backbone(config)
        self.neck = PathAggregation(levels, lambda c_in, c_out: build_neck_block(config, c_in, c_out))
        self.head = DetectHead(levels, config.num_classes, self.strides)
        self.mask_head: MaskHead | None = None
        if config.task == "segment":
            self.mask_head = MaskHead(levels, self.strides.index(PROTO_STRIDE_PX), channels[1])

    def forward(self, images: Tensor) -> RawDetections:
        """Raw detections of a batch.

        Args:
            images: (B, 3, H, W) float in 0..1, RGB; H and W multiples of 32.

        Raises:
            ShapeError: another shape or dtype.
        """
        check_images(images)
        # Channels last once, here: every later map keeps it, and the tokens of the scan are then the map itself.
        maps = self.backbone(images.contiguous(memory_format=torch.channels_last))
        pyramid = self.neck(maps[-len(self.strides) :])
        levels = self.head(pyramid)
        if self.mask_head is None:
            return RawDetections(levels)
        return RawDetections(levels, *self.mask_head(pyramid))


def check_images(images: Tensor) -> None:
    """Raise ShapeError unless images are (B, 3, H, W) floats with sides that are multiples of 32."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise ShapeError(f"images must have shape (B, 3, H, W), got {shape}")
    if not images.is_floating_point():
        raise ShapeError(f"images must be floats in 0..1, got {images.dtype}; divide by 255")
    if min(shape[2:]) == 0 or shape[2] % STRIDE_MULTIPLE_PX or shape[3] % STRIDE_MULTIPLE_PX:
        raise ShapeError(
            f"image sides must be multiples of {STRIDE_MULTIPLE_PX}, got {shape[2]} x {shape[3]}; pad them"
        )


def scaled_channels(config: DetectorConfig) -> tuple[int, ...]:
    """Channels of the four stages after cap and width factor."""
    capped = (min(c, config.max_channels) * config.width for c in STAGE_CHANNELS)
    return tuple(math.ceil(c / CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE for c in capped)


def scaled_depth(config: DetectorConfig, num_blocks: int) -> int:
    """Number of blocks after the depth factor."""
    return max(round(num_blocks * config.depth), 1)


def build_backbone(config: DetectorConfig) -> Backbone:
    """Stem, stages, downsamplings and pooling of a config."""
    channels = scaled_channels(config)
    stages = []
    for c, depth in zip(channels, config.stage_depths, strict=True):
        stages.append(nn.Sequential(*[build_stage_block(config, c) for _ in range(scaled_depth(config, depth))]))
    downsamples = [build_downsample(config, *pair) for pair in itertools.pairwise(channels)]
    return Backbone(SimpleStem(channels[0]), stages, downsamples, SPPF(channels[-1]))


def build_downsample(config: DetectorConfig, in_channels: int, out_channels: int) -> nn.Module:
    """What stands between two stages."""
    if config.downsampling == "clue_merge":
        return VisionClueMerge(in_channels, out_channels)
    return ConvNormAct(in_channels, out_channels, 3, 2)


def build_stage_block(config: DetectorConfig, channels: int) -> ODSSBlock:
    """Block of the backbone: always projects, with bias, and scans once."""
    return build_odss(config, ConvNormAct(channels, channels, 1, bias=True), channels, num_scans=1)


def build_neck_block(config: DetectorConfig, in_channels: int, out_channels: int) -> nn.Module:
    """Block of the neck: projects where channels change, without bias, and scans several times in one residual."""
    depth = scaled_depth(config, NECK_DEPTH)
    if config.neck_block == "c2f":
        return C2f(in_channels, out_channels, depth)
    same = in_channels == out_channels
    projection = nn.Identity() if same else ConvNormAct(in_channels, out_channels, 1)
    return build_odss(config, projection, out_channels, num_scans=depth)


def build_odss(config: DetectorConfig, projection: nn.Module, channels: int, *, num_scans: int) -> ODSSBlock:
    """ODSSBlock with the parts that a config asks for."""
    scans = [
        SS2D(channels, config.state_size, initialization=config.initialization, dropout=config.dropout)
        for _ in range(num_scans)
    ]
    local = LSBlock(channels) if config.local_spatial else nn.Identity()
    mlp = CHANNEL_MLPS[config.channel_mlp](channels)
    return ODSSBlock(projection, local, scans, mlp, channels=channels, drop_path=config.drop_path)
