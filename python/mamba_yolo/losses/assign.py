"""Task-aligned assignment: which anchor learns which object, and how much (arXiv 2108.07755; details in `assign`).

Everything is vectorised over boxes padded to the fullest image; CIoU is computed only where an anchor lies inside a
box, so that memory stays at a few numbers per (image, box, anchor). Test: tests/losses/test_assign.py.

Legend: B batch, M boxes of the fullest image, A anchors, P pairs of box and anchor inside it, nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from mamba_yolo.boxes import ciou

if TYPE_CHECKING:
    from torch import Tensor

SCORE_POWER = 0.5
CIOU_POWER = 6.0
TOP_ANCHORS = 10  # per box
FIT_EPS = 1e-9  # as in the release: a box that nothing fits yet (CIoU below 0.03) teaches little; see the recorded loss


class Targets(NamedTuple):
    """Objects of a batch, padded.

    Attributes:
        boxes_xyxy: (B, M, 4) in pixels.
        classes: (B, M) int64.
        is_real: (B, M) bool, False where padded.
    """

    boxes_xyxy: Tensor
    classes: Tensor
    is_real: Tensor


class Assignment(NamedTuple):
    """What every anchor learns.

    Attributes:
        is_positive: (B, A) bool.
        box_index: (B, A) int64, which of the M boxes; 0 where not positive.
        scores: (B, A) target score of the class of that box, 0 where not positive.
    """

    is_positive: Tensor
    box_index: Tensor
    scores: Tensor


def pad_targets(boxes_xyxy: Tensor, classes: Tensor, batch_index: Tensor, batch_size: int) -> Targets:
    """Boxes (N, 4), classes (N,) and the image of each (N,), in any order, as padded targets."""
    order = torch.argsort(batch_index, stable=True)
    image = batch_index[order]
    counts = torch.bincount(image, minlength=batch_size)
    first = counts.cumsum(0) - counts
    position = torch.arange(len(image), device=image.device) - first[image]
    size = (batch_size, int(counts.max()) if len(counts) else 0)
    padded_boxes = boxes_xyxy.new_zeros(*size, 4)
    padded_classes = classes.new_zeros(size)
    is_real = torch.zeros(size, dtype=torch.bool, device=image.device)
    padded_boxes[image, position] = boxes_xyxy[order]
    padded_classes[image, position] = classes[order]
    is_real[image, position] = True
    return Targets(padded_boxes, padded_classes, is_real)


def target_rows(batch_index: Tensor, image_P: Tensor, box_P: Tensor) -> Tensor:
    """Rows (P,) of a batch's boxes from their image and their place there, as `pad_targets` gave it."""
    counts = torch.bincount(batch_index)
    first = counts.cumsum(0) - counts
    return torch.argsort(batch_index, stable=True)[first[image_P] + box_P]


@torch.no_grad()
def assign(class_scores: Tensor, boxes_xyxy: Tensor, centres: Tensor, targets: Targets) -> Assignment:
    """Give each anchor at most one box.

    An anchor may learn a box when its centre lies inside; how well they fit is score^0.5 * CIoU^6. Each box takes its
    ten best anchors; an anchor taken by several boxes goes to the one with the largest CIoU. The target score is the
    fit over the best fit of the box, times the best CIoU of the box.

    Args:
        class_scores: (B, A, nc) probabilities.
        boxes_xyxy: (B, A, 4) predicted, pixels.
        centres: (A, 2) x, y of the anchors in pixels.
        targets: objects, pixels.
    """
    is_inside = centres_inside(centres, targets)
    overlap, fit = overlap_and_fit(class_scores, boxes_xyxy, targets, is_inside)
    is_taken = best_anchors(fit)
    is_taken = resolve_conflicts(is_taken, overlap)
    return target_scores(is_taken, overlap, fit)


def centres_inside(centres: Tensor, targets: Targets) -> Tensor:
    """(B, M, A) bool: the anchor's centre lies strictly inside the real box."""
    x_A, y_A = centres.unbind(-1)
    left, top, right, bottom = (side[..., None] for side in targets.boxes_xyxy.unbind(-1))
    return (x_A > left) & (x_A < right) & (y_A > top) & (y_A < bottom) & targets.is_real[..., None]


def overlap_and_fit(
    class_scores: Tensor, boxes_xyxy: Tensor, targets: Targets, is_inside: Tensor
) -> tuple[Tensor, Tensor]:
    """CIoU clamped at 0 and fit, each (B, M, A), 0 where the anchor is not inside."""
    image_P, box_P, anchor_P = is_inside.nonzero(as_tuple=True)
    overlap_P = ciou(boxes_xyxy[image_P, anchor_P], targets.boxes_xyxy[image_P, box_P]).clamp(min=0)
    score_P = class_scores[image_P, anchor_P, targets.classes[image_P, box_P]]
    overlap = boxes_xyxy.new_zeros(is_inside.shape)
    fit = torch.zeros_like(overlap)
    overlap[is_inside] = overlap_P
    fit[is_inside] = score_P**SCORE_POWER * overlap_P**CIOU_POWER
    return overlap, fit


def best_anchors(fit: Tensor) -> Tensor:
    """(B, M, A) bool: among the ten best of its box, and fitting at all."""
    best = fit.topk(min(TOP_ANCHORS, fit.shape[-1]), dim=-1).indices
    return torch.zeros_like(fit, dtype=torch.bool).scatter_(-1, best, True) & (fit > 0)


def resolve_conflicts(is_taken: Tensor, overlap: Tensor) -> Tensor:
    """(B, M, A) bool with at most one box per anchor: the one of largest CIoU among those that took it."""
    if is_taken.shape[1] == 0:
        return is_taken
    winner = torch.where(is_taken, overlap, -1).argmax(dim=1, keepdim=True)
    return torch.zeros_like(is_taken).scatter_(1, winner, True) & is_taken


def target_scores(is_taken: Tensor, overlap: Tensor, fit: Tensor) -> Assignment:
    """Assignment of taken anchors, scored relative to the best anchor of each box."""
    if is_taken.shape[1] == 0:
        nothing = is_taken.new_zeros(is_taken.shape[0], is_taken.shape[2])
        return Assignment(nothing, nothing.long(), nothing.to(fit.dtype))
    fit, overlap = fit * is_taken, overlap * is_taken
    best_fit = fit.amax(-1, keepdim=True) + FIT_EPS
    scores = fit / best_fit * overlap.amax(-1, keepdim=True)
    return Assignment(is_taken.any(1), is_taken.int().argmax(1), scores.amax(1))
