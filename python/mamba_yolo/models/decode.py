"""From raw maps to boxes in pixels and class probabilities; NMS comes later, in ops.

Distances are the expectation over 16 bins per side, in cells from the cell centre, times the stride.
Test: tests/models/test_goldens.py.

Legend: B batch, A anchors of all levels (finest first, each row-major), nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mamba_yolo.boxes import NUM_BINS, anchor_grid, cxcywh_from_xyxy, distances_from_bins, xyxy_from_distances
from mamba_yolo.checks import STRIDE_MULTIPLE_PX

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.types import RawDetections


def decode(raw: RawDetections) -> Tensor:
    """Decoded detections.

    Returns:
        (B, 4 + nc (+ 32), A): cx cy w h in pixels of the network input, class probabilities, mask coefficients.
    """
    num_levels = len(raw.levels)
    strides = [STRIDE_MULTIPLE_PX >> (num_levels - 1 - i) for i in range(num_levels)]  # the coarsest is always 32
    centres_A2, strides_A1 = anchor_grid(raw.levels, strides)
    flat_BCA = torch.cat([level.flatten(2) for level in raw.levels], dim=2)
    distances_BA4 = distances_from_bins(flat_BCA[:, : 4 * NUM_BINS].mT)
    boxes_BA4 = cxcywh_from_xyxy(xyxy_from_distances(centres_A2, distances_BA4)) * strides_A1
    parts = [boxes_BA4.mT, flat_BCA[:, 4 * NUM_BINS :].sigmoid()]
    if raw.mask_coefs is not None:
        parts.append(raw.mask_coefs)
    return torch.cat(parts, dim=1)
