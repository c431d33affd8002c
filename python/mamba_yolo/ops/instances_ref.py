"""Masks of found objects, defined in plain torch.

A cell of the prototypes is 4 pixels of the network's input wide. Logits are interpolated between the centres of cells
and stay as they are beyond the outer ones; a pixel of the mask is inside where its centre's logit is above 0 and the
pixel touches the box. Tested in tests/ops/test_instances.py.

Legend: N objects, C coefficients, H W of the masks, h w of the prototypes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

PROTO_STRIDE = 4.0
FURTHEST = 1e30  # logits are cut here, and what is not a number is as far outside


def instance_masks_ref(
    coefs: Tensor, protos: Tensor, boxes_xyxy: Tensor, size: tuple[int, int], gain: float, left: float, top: float
) -> Tensor:
    """Masks (N, H, W) uint8 of coefs (N, C), protos (C, h, w) and boxes (N, 4) in pixels of the masks."""
    masks = torch.zeros((len(coefs), *size), dtype=torch.uint8)
    row_of_y, part_of_y = _places(size[0], gain, top, protos.shape[1])
    column_of_x, part_of_x = _places(size[1], gain, left, protos.shape[2])
    for mask, coef, box in zip(masks, coefs, boxes_xyxy.tolist(), strict=True):
        x, y = _pixels(box[0], box[2], size[1]), _pixels(box[1], box[3], size[0])
        if x.stop > x.start and y.stop > y.start:
            logits_hw = torch.einsum("c,chw->hw", coef, protos).nan_to_num(-FURTHEST).clamp(-FURTHEST, FURTHEST)
            columns, rows = column_of_x[x], row_of_y[y]
            logits_hW = torch.lerp(logits_hw[:, columns], logits_hw[:, columns + 1], part_of_x[x])
            mask[y, x] = torch.lerp(logits_hW[rows], logits_hW[rows + 1], part_of_y[y, None]) > 0
    return masks


def _places(length: int, gain: float, padding: float, num_cells: int) -> tuple[Tensor, Tensor]:
    """Of each pixel the cell before its centre, and the way from there to the centre of the next one, 0 to 1."""
    pixels = torch.arange(length, dtype=torch.float64)
    place = (((pixels + 0.5) * gain + padding) / PROTO_STRIDE - 0.5).clamp(0, num_cells - 1)
    cell = place.floor().clamp(max=num_cells - 2)
    return cell.long(), (place - cell).float()


def _pixels(low: float, high: float, length: int) -> slice:
    """Pixels that are touched between two coordinates."""
    return slice(min(max(math.floor(low), 0), length), min(max(math.ceil(high), 0), length))
