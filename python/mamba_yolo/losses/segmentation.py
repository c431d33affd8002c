"""Segmentation loss: the detection loss, and binary cross-entropy of the masks of positive anchors.

Prototypes and coefficients: arXiv 1904.02689. The mask of an anchor is sigmoid(coefficients · prototypes). Its loss is
summed over the pixels whose centre lies in the box of its object and divided by the area of the box in pixels of the
prototypes, so that large and small objects count alike; the mean over the anchors times the gain is added. An object
whose mask is empty, because it has a box only or no pixel centre inside, teaches no mask.
Test: tests/losses/test_segmentation.py (loops in float64, gradcheck).

Legend: B batch, A anchors, N boxes of the batch, P positive anchors, h w pixels of the prototypes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        learners: anchors and the row of their object, in the order of images.
        boxes_cxcywh_norm: (N, 4) in 0..1.
        masks: (N, h, w) of 0 and 1.
    """
    images, channels, height, width = protos.shape
    scale = protos.new_tensor([width, height, width, height])
    boxes_P4 = boxes_cxcywh_norm[learners.row] * scale
    area_P = boxes_P4[:, 2] * boxes_P4[:, 3]
    inside_Phw = _inside(xyxy_from_cxcywh(boxes_P4), height, width)
    total = (protos.sum() + coefs.sum()) * 0  # an image without objects has gradients too
    ends = torch.bincount(learners.image, minlength=images).cumsum(0).tolist()
    for image, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        mine = slice(start, end)
        inside = inside_Phw[mine]
        logits = coefs[image, :, learners.anchor[mine]].mT @ protos[image].reshape(channels, -1)
        # Selected first: most boxes are a small part of the picture.
        logits = logits.view(inside.shape).masked_select(inside)
        goals = masks[learners.row[mine]].masked_select(inside).to(logits)
        weights = (1 / area_P[mine])[:, None, None].expand(inside.shape).masked_select(inside)
        total = total + functional.binary_cross_entropy_with_logits(logits, goals, weights, reduction="sum")
    return total


def _with_mask(positives: Positives, masks: Tensor) -> Positives:
    """The anchors whose object has a mask."""
    kept = masks.bool().flatten(1).any(1)[positives.row]
    return Positives(*(values[kept] for values in positives))


def _inside(boxes_xyxy: Tensor, height: int, width: int) -> Tensor:
    """(P, h, w) bool: the pixel's centre lies in the box, in pixels."""
    x = torch.arange(width, device=boxes_xyxy.device) + 0.5
    y = torch.arange(height, device=boxes_xyxy.device) + 0.5
    x1, y1, x2, y2 = boxes_xyxy[..., None].unbind(1)
    return ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None, :]
