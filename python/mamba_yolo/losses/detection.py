"""Detection loss: binary cross-entropy of classes, CIoU of boxes, distribution focal loss of distances.

CIoU: arXiv 1911.08287; DFL: arXiv 2006.04388; assignment: `assign`. Everything is computed in float32 at least.
Test: tests/losses/test_detection.py (equal to the recorded reference, gradients included).

Legend: B batch, A anchors, N boxes of the batch, P positive anchors, nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from mamba_yolo.boxes import (
    NUM_BINS,
    anchor_grid,
    ciou,
    distances_from_bins,
    distances_from_xyxy,
    xyxy_from_cxcywh,
    xyxy_from_distances,
)
from mamba_yolo.errors import ShapeError
from mamba_yolo.losses.assign import assign, pad_targets, target_rows

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.types import RawDetections

BIN_MARGIN = 0.01  # keeps the upper bin of a distance inside the last one


class DetectionLossParts(NamedTuple):
    """Scalars of one step; the parts are detached and already weighted by their gains.

    Attributes:
        total: (box + cls + dfl + seg) times the batch size; differentiable.
        box: mean over targets of 1 - CIoU.
        cls: binary cross-entropy.
        dfl: distribution focal loss.
        scores: sum of the assigned scores; box, cls and dfl were divided by it, or by 1 if it is less.
        seg: mask loss, of a network with masks.
        seg_total: what masks add to the total; differentiable.
        learners: anchors that learn a mask; seg was divided by their number, or by 1 if there are none.
    """

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor
    scores: Tensor
    seg: Tensor | None = None
    seg_total: Tensor | None = None
    learners: Tensor | None = None


class Positives(NamedTuple):
    """Anchors that learn an object, image by image.

    Attributes:
        image: (P,) index in the batch.
        anchor: (P,) index among the anchors.
        row: (P,) row of the batch's boxes.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor


class DetectionLoss:
    """Loss of raw detections against boxes.

    Args:
        num_classes: nc.
        strides: of the levels in pixels, finest first.
        box: gain of the box loss.
        cls: gain of the class loss.
        dfl: gain of the distribution focal loss.
        class_weights: (nc,) factors of the class loss by class; all 1 if left out.
    """

    def __init__(
        self,
        num_classes: int,
        strides: tuple[int, ...] = (8, 16, 32),
        box: float = 7.5,
        cls: float = 0.5,
        dfl: float = 1.5,
        class_weights: Tensor | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.strides = strides
        self.gains = (box, cls, dfl)
        self.class_weights = class_weights

    def __call__(
        self, raw: RawDetections, boxes_cxcywh_norm: Tensor, classes: Tensor, batch_index: Tensor
    ) -> DetectionLossParts:
        """Loss of a batch.

        Args:
            raw: output of the network; any float dtype.
            boxes_cxcywh_norm: (N, 4) in 0..1 of the network input.
            classes: (N,) in 0..nc-1.
            batch_index: (N,) image of each box, 0..B-1.

        Raises:
            ShapeError: levels that do not fit the number of classes or strides.
        """
        return self.with_positives(raw, boxes_cxcywh_norm, classes, batch_index)[0]

    def with_positives(
        self, raw: RawDetections, boxes_cxcywh_norm: Tensor, classes: Tensor, batch_index: Tensor
    ) -> tuple[DetectionLossParts, Positives]:
        """Loss of a batch as by a call, and which anchors learn which object."""
        self._check(raw)
        with torch.autocast(raw.levels[0].device.type, enabled=False):
            levels = [at_least_float32(level) for level in raw.levels]
            return self._loss(levels, boxes_cxcywh_norm, classes.flatten().long(), batch_index.flatten().long())

    def _loss(
        self, levels: list[Tensor], boxes_cxcywh_norm: Tensor, classes: Tensor, batch_index: Tensor
    ) -> tuple[DetectionLossParts, Positives]:
        """Loss of levels in one dtype."""
        batch_size = levels[0].shape[0]
        centres_A2, strides_A1 = anchor_grid(levels, self.strides)
        flat_BAC = torch.cat([level.flatten(2) for level in levels], dim=2).mT
        bins_BA64, logits_BAn = flat_BAC[..., : 4 * NUM_BINS], flat_BAC[..., 4 * NUM_BINS :]
        boxes_BA4 = xyxy_from_distances(centres_A2, distances_from_bins(bins_BA64))  # in cells of their level

        height_px, width_px = (side * self.strides[0] for side in levels[0].shape[2:])
        size_px = boxes_BA4.new_tensor([width_px, height_px, width_px, height_px])
        boxes_px = xyxy_from_cxcywh(boxes_cxcywh_norm.to(size_px) * size_px)
        targets = pad_targets(boxes_px, classes, batch_index, batch_size)
        predicted_px = boxes_BA4.detach() * strides_A1
        assigned = assign(logits_BAn.detach().sigmoid(), predicted_px, centres_A2 * strides_A1, targets)
        scores = assigned.scores.sum()
        divisor = scores.clamp(min=1)

        image_P, anchor_P = assigned.is_positive.nonzero(as_tuple=True)
        box_P = assigned.box_index[image_P, anchor_P]
        weight_P = assigned.scores[image_P, anchor_P]
        goal_P4 = targets.boxes_xyxy[image_P, box_P] / strides_A1[anchor_P]
        target_BAn = torch.zeros_like(logits_BAn)
        target_BAn[image_P, anchor_P, targets.classes[image_P, box_P]] = weight_P

        box = ((1 - ciou(boxes_BA4[image_P, anchor_P], goal_P4)) * weight_P).sum() / divisor
        weight_n = None if self.class_weights is None else self.class_weights.to(logits_BAn)
        cls = functional.binary_cross_entropy_with_logits(logits_BAn, target_BAn, weight_n, reduction="sum") / divisor
        distances_P4 = distances_from_xyxy(centres_A2[anchor_P], goal_P4)
        dfl = (distribution_focal_loss(bins_BA64[image_P, anchor_P], distances_P4) * weight_P).sum() / divisor

        box, cls, dfl = (part * gain for part, gain in zip((box, cls, dfl), self.gains, strict=True))
        parts = DetectionLossParts((box + cls + dfl) * batch_size, box.detach(), cls.detach(), dfl.detach(), scores)
        return parts, Positives(image_P, anchor_P, target_rows(batch_index, image_P, box_P))

    def _check(self, raw: RawDetections) -> None:
        """Raise ShapeError unless the levels fit."""
        channels = 4 * NUM_BINS + self.num_classes
        shapes = [tuple(level.shape) for level in raw.levels]
        if len(shapes) != len(self.strides) or any(len(s) != 4 or s[1] != channels for s in shapes):
            raise ShapeError(f"expected {len(self.strides)} levels of shape (B, {channels}, H, W), got {shapes}")


def rarity_weights(counts: Tensor, power: float) -> Tensor:
    """Weights of classes from how many boxes each has.

    Args:
        counts: (nc,) boxes.
        power: 0 all alike, 1 in inverse proportion.

    Returns:
        (nc,) float32 whose mean over all boxes is 1; a class without boxes has weight 1.
    """
    counts = counts.double()
    weights = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0)
    weights = weights * counts.sum() / (weights * counts).sum().clamp(min=1e-12)
    return torch.where(counts > 0, weights, 1).float()


def distribution_focal_loss(bins: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy to the two bins around each distance, weighted linearly; mean of the four sides.

    Args:
        bins: (P, 64) logits, side by side.
        distances: (P, 4) targets in cells, clamped to [0, 15 - BIN_MARGIN].

    Returns:
        (P,).
    """
    distances = distances.clamp(0, NUM_BINS - 1 - BIN_MARGIN)
    lower = distances.long()
    share = distances - lower
    log_probability = bins.reshape(-1, 4, NUM_BINS).log_softmax(-1)
    near = log_probability.gather(-1, lower[..., None]).squeeze(-1)
    far = log_probability.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -(near * (1 - share) + far * share).mean(-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
