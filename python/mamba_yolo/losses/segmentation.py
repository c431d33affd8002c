"""Segmentation loss: the detection loss, and binary cross-entropy of the masks of positive anchors.

Prototypes and coefficients: arXiv 1904.02689. The mask of an anchor is sigmoid(coefficients · prototypes). Its loss is
summed over the pixels whose centre lies in the box of its object and divided by the area of the box in pixels of the
prototypes, so that large and small objects count alike; the mean over the anchors times the gain is added. An object
whose mask is empty, because it has a box only or no pixel centre inside, teaches no mask.

Only pixels of boxes are computed: boxes of like area together, each cut out once for all anchors that learn it.
Test: tests/losses/test_segmentation.py (loops in float64, gradcheck).

Legend: B batch, N boxes of the batch, P positive anchors, h w pixels of the prototypes, C their channels, X Y pixels
and anchors of the whole batch, O boxes of like area, K anchors of a box, A pixels of a box (in `coefs` anchors of an
image).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from mamba_yolo.boxes import xyxy_from_cxcywh
from mamba_yolo.errors import ShapeError
from mamba_yolo.losses.detection import DetectionLoss, DetectionLossParts, Positives, at_least_float32

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.config import Task
    from mamba_yolo.types import RawDetections


class SegmentationLoss:
    """Loss of raw detections with masks against boxes and masks.

    Args:
        detection: loss of boxes and classes.
        seg: gain of the mask loss.
    """

    def __init__(self, detection: DetectionLoss, seg: float = 7.5) -> None:
        self.detection = detection
        self.seg = seg

    def __call__(
        self, raw: RawDetections, boxes_cxcywh_norm: Tensor, classes: Tensor, batch_index: Tensor, masks: Tensor
    ) -> DetectionLossParts:
        """Loss of a batch.

        Args:
            raw: output of the network; any float dtype.
            boxes_cxcywh_norm: (N, 4) in 0..1 of the network input.
            classes: (N,) in 0..nc-1.
            batch_index: (N,) image of each box, 0..B-1.
            masks: (N, h, w) of 0 and 1.

        Raises:
            ShapeError: outputs without masks, masks that do not fit them, and as `DetectionLoss`.
        """
        if raw.protos is None or raw.mask_coefs is None:
            raise ShapeError("the mask loss needs the outputs of a -seg network, got those of a detector")
        if masks.shape != (len(classes), *raw.protos.shape[2:]):
            expected = (len(classes), *raw.protos.shape[2:])
            raise ShapeError(f"expected masks of shape {expected}, as many as boxes, got {tuple(masks.shape)}")
        parts, positives = self.detection.with_positives(raw, boxes_cxcywh_norm, classes, batch_index)
        with torch.autocast(raw.protos.device.type, enabled=False):
            protos, coefs = at_least_float32(raw.protos), at_least_float32(raw.mask_coefs)
            learners = _with_mask(positives, masks)
            count = torch.as_tensor(len(learners.row), device=protos.device)
            total = sum_of_masks(protos, coefs, learners, boxes_cxcywh_norm.to(protos), masks)
            seg = total / count.clamp(min=1) * self.seg
        seg_total = seg * len(protos)
        return parts._replace(total=parts.total + seg_total, seg=seg.detach(), seg_total=seg_total, learners=count)


def loss_of(task: Task, detection: DetectionLoss) -> DetectionLoss | SegmentationLoss:
    """The loss of a kind of network."""
    return SegmentationLoss(detection) if task == "segment" else detection


def sum_of_masks(
    protos: Tensor, coefs: Tensor, learners: Positives, boxes_cxcywh_norm: Tensor, masks: Tensor
) -> Tensor:
    """Sum over anchors of the mean cross-entropy inside the box.

    Args:
        protos: (B, 32, h, w).
        coefs: (B, 32, A).
        learners: anchors and the row of their object.
        boxes_cxcywh_norm: (N, 4) in 0..1.
        masks: (N, h, w) of 0 and 1.
    """
    height, width = protos.shape[2:]
    boxes_N4 = boxes_cxcywh_norm * protos.new_tensor([width, height, width, height])
    crops = _crops(xyxy_from_cxcywh(boxes_N4), height, width)
    image_N = torch.zeros_like(crops.area).index_put_((learners.row,), learners.image)
    anchor_NK, is_anchor_NK = _anchors_by_box(learners, len(masks), coefs.shape[2])
    weight_NK = is_anchor_NK / boxes_N4[:, 2:].prod(1, keepdim=True)
    protos_XC, coefs_YC = (rows.flatten(2).mT.flatten(0, 1) for rows in (protos, coefs))
    total = (protos.sum() + coefs.sum()) * 0  # an image without objects has gradients too
    for rows_O in _of_like_area(crops.area, is_anchor_NK.any(1)):
        pixel_OA, is_inside_OA = crops.pixels(rows_O, width)
        protos_OAC = functional.embedding(image_N[rows_O, None] * (height * width) + pixel_OA, protos_XC)
        logits_OKA = functional.embedding(anchor_NK[rows_O], coefs_YC) @ protos_OAC.mT
        goals_OA = masks.flatten(1)[rows_O[:, None], pixel_OA].to(logits_OKA)
        weights_OKA = weight_NK[rows_O, :, None] * is_inside_OA[:, None]
        goals_OKA = goals_OA[:, None].expand_as(logits_OKA)
        total = total + functional.binary_cross_entropy_with_logits(logits_OKA, goals_OKA, weights_OKA, reduction="sum")
    return total


class _Crops(NamedTuple):
    """(N,) the pixels whose centre lies in a box: the first column and row, columns, and pixels in all."""

    x: Tensor
    y: Tensor
    columns: Tensor
    area: Tensor

    def pixels(self, rows_O: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """(O, A) row-major indices of the pixels of some crops, and which of them are no filling."""
        x, y, columns, area = (values[rows_O, None] for values in self)
        step_A = torch.arange(int(area.max()), device=area.device)
        is_inside_OA = step_A < area
        return torch.where(is_inside_OA, (y + step_A // columns) * width + x + step_A % columns, 0), is_inside_OA


def _crops(boxes_xyxy: Tensor, height: int, width: int) -> _Crops:
    """The pixels of every box, which is in pixels."""
    last = torch.tensor([width, height, width, height], device=boxes_xyxy.device)
    x1, y1, x2, y2 = (boxes_xyxy - 0.5).ceil().long().clamp(min=0).minimum(last).unbind(1)
    return _Crops(x1, y1, x2 - x1, (x2 - x1) * (y2 - y1))


def _of_like_area(area_N: Tensor, is_wanted_N: Tensor) -> list[Tensor]:
    """Rows of wanted crops that have pixels, in groups whose areas differ by less than a factor of two."""
    rows = (is_wanted_N & (area_N > 0)).nonzero()[:, 0]
    octave = area_N[rows].log2().floor().long()
    order = octave.argsort(stable=True)
    count = octave.bincount()
    return list(torch.split(rows[order], count[count > 0].tolist()))


def _anchors_by_box(learners: Positives, num_boxes: int, num_anchors: int) -> tuple[Tensor, Tensor]:
    """(N, K) anchors that learn each box, counted through the batch, and (N, K) which of them are no filling."""
    row_P, order = learners.row.sort(stable=True)
    count_N = row_P.bincount(minlength=num_boxes)
    nth_P = torch.arange(len(row_P), device=row_P.device) - (count_N.cumsum(0) - count_N)[row_P]
    is_anchor_NK = torch.arange(int(count_N.amax()) if num_boxes else 0, device=row_P.device) < count_N[:, None]
    anchor_NK = torch.zeros_like(is_anchor_NK, dtype=torch.long)
    anchor_NK[row_P, nth_P] = (learners.image * num_anchors + learners.anchor)[order]
    return anchor_NK, is_anchor_NK


def _with_mask(positives: Positives, masks: Tensor) -> Positives:
    """The anchors whose object has a mask."""
    kept = masks.bool().flatten(1).any(1)[positives.row]
    return Positives(*(values[kept] for values in positives))
