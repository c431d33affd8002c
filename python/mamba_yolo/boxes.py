"""Boxes: formats, the IoU family, clipping, and the anchor grid that box distances are measured from.

CIoU: arXiv 1911.08287; distances as distributions over bins: arXiv 2006.04388. Test: tests/test_boxes.py.

Legend: N M boxes, A anchors, B batch; xyxy corners, cxcywh centre and size, ltrb distances to the four sides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NUM_BINS = 16  # bins of each distance, 0 to 15 cells
CIOU_EPS = 1e-7


def xyxy_from_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def cxcywh_from_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) corners to centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def clip_boxes(boxes_xyxy: Tensor, height: float, width: float) -> Tensor:
    """Corners moved into an image of height x width."""
    limits = boxes_xyxy.new_tensor([width, height, width, height])
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair: (N, 4) and (M, 4) xyxy to (N, M); 0 where the union is empty."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas_a, areas_b = ((boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1) for boxes in (a, b))
    union = areas_a[:, None] + areas_b[None] - overlap
    return torch.where(union > 0, overlap / union.clamp(min=torch.finfo(union.dtype).tiny), 0)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of paired boxes: (..., 4) and (..., 4) xyxy to (...).

    IoU - (centre distance)² / (diagonal of the hull)² - alpha v, v the squared difference of aspect angles; no
    gradient flows through the weight alpha (arXiv 1911.08287 eq. 10-12).
    """
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = overlap / (size_a.prod(-1) + size_b.prod(-1) - overlap + CIOU_EPS)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    offset = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = offset.square().sum(-1) / (hull.square().sum(-1) + CIOU_EPS)
    angle_a, angle_b = (torch.atan(s[..., 0] / (s[..., 1] + CIOU_EPS)) for s in (size_a, size_b))
    aspect = (4 / math.pi**2) * (angle_a - angle_b).square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + CIOU_EPS)
    return iou - distance - alpha * aspect


def anchor_grid(levels: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cell centres of all levels, each row-major, in the order of the levels.

    Args:
        levels: (B, C, H, W) maps; their sizes, dtype and device count.
        strides: of each level in pixels.

    Returns:
        Centres (A, 2) as x, y in cells of their own level, and strides (A, 1) in pixels.
    """
    centres, steps = [], []
    for level, stride in zip(levels, strides, strict=True):
        height, width = level.shape[2:]
        y = torch.arange(height, dtype=level.dtype, device=level.device) + 0.5
        x = torch.arange(width, dtype=level.dtype, device=level.device) + 0.5
        centres.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1))
        steps.append(torch.full((height * width, 1), stride, dtype=level.dtype, device=level.device))
    return torch.cat(centres), torch.cat(steps)


def distances_from_bins(bins: Tensor) -> Tensor:
    """Expectation of each side's distribution: (..., 64) logits, side by side, to (..., 4) ltrb in cells."""
    shares = bins.reshape(*bins.shape[:-1], 4, NUM_BINS).softmax(-1)
    return shares @ torch.arange(NUM_BINS, dtype=bins.dtype, device=bins.device)


def xyxy_from_distances(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes around centres: (A, 2) x, y and (..., A, 4) ltrb to (..., A, 4) corners."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def distances_from_xyxy(centres: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Distances from centres to the sides: (A, 2) x, y and (..., A, 4) corners to (..., A, 4) ltrb."""
    return torch.cat([centres - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - centres], dim=-1)
