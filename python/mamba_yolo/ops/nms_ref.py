"""Non-maximum suppression, defined in plain torch: one candidate at a time, by falling score.

Rules: float32 arithmetic, overlap must be greater than the threshold, ties by index, classes apart
(torchvision's rule per class; soft: arXiv 1704.04503; DIoU: arXiv 1911.08287). Tested in tests/ops/test_nms.py.

Legend: N boxes, B images, A anchors, nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mamba_yolo.boxes import xyxy_from_cxcywh
from mamba_yolo.errors import DetectionError

if TYPE_CHECKING:
    from torch import Tensor

GAUSSIAN_SIGMA = 0.5  # arXiv 1704.04503 §5.1
SCORE_FLOOR = 1e-3  # soft suppression drops what falls below
MAX_CANDIDATES = 30_000  # kept by score before suppression, as the field does
CLASS_SHIFT = 7680.0  # pixels between classes where boxes are shifted apart


def nms_ref(
    boxes_N4: Tensor, scores_N: Tensor, classes_N: Tensor | None, iou_thr: float, max_det: int, kind: str
) -> Tensor:
    """Take the best box, lower or remove its rivals, repeat; shapes as in `mamba_yolo.ops.nms`."""
    boxes_N4, scores_N = boxes_N4.float(), scores_N.float()
    refuse_nan(boxes_N4, scores_N)
    alive_N = torch.ones(len(scores_N), dtype=torch.bool)
    if kind.startswith("soft"):
        alive_N &= scores_N >= SCORE_FLOOR
    kept: list[int] = []
    while alive_N.any() and len(kept) < max_det:
        best = int(torch.where(alive_N, scores_N, -torch.inf).argmax())
        kept.append(best)
        alive_N[best] = False
        rivals_N = alive_N if classes_N is None else alive_N & (classes_N == classes_N[best])
        overlap_N = _overlap(boxes_N4[best], boxes_N4, distance=kind == "diou")
        if kind in ("hard", "diou"):
            alive_N &= ~(rivals_N & (overlap_N.double() > iou_thr))
            continue
        if kind == "soft_linear":
            penalty_N = torch.where(overlap_N.double() > iou_thr, 1 - overlap_N, 1.0)
        else:
            penalty_N = torch.exp(-(overlap_N.nan_to_num(0) ** 2) / GAUSSIAN_SIGMA)
        scores_N = torch.where(rivals_N, scores_N * penalty_N, scores_N)
        alive_N &= scores_N >= SCORE_FLOOR
    return torch.tensor(kept, dtype=torch.int64)


def nms_head_ref(
    pred_BCA: Tensor,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    compat: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> list[Tensor]:
    """Rows x1 y1 x2 y2 score class extra... of every image; shapes as in `mamba_yolo.ops.nms_head`."""
    pred_BCA = pred_BCA.float()
    boxes_BA4 = xyxy_from_cxcywh(pred_BCA[:, :4].mT)
    refuse_nan(boxes_BA4, pred_BCA[:, 4 : 4 + num_classes])
    rows = []
    for pred_AC, boxes_A4 in zip(pred_BCA.mT, boxes_BA4, strict=True):
        anchor_N, class_N, score_N = _candidates(pred_AC[:, 4 : 4 + num_classes], conf_thr, multi_label, classes)
        boxes_N4 = boxes_A4[anchor_N]
        rivals_N = None if agnostic or compat else class_N
        shifted_N4 = boxes_N4 + class_N[:, None] * CLASS_SHIFT if compat and not agnostic else boxes_N4
        kept = nms_ref(shifted_N4, score_N, rivals_N, iou_thr, max_det, "hard")
        extra_NX = pred_AC[anchor_N, 4 + num_classes :]
        rows.append(torch.cat([boxes_N4, score_N[:, None], class_N[:, None].float(), extra_NX], dim=1)[kept])
    return rows


def fuse_ref(
    boxes_N4: Tensor, scores_N: Tensor, classes_N: Tensor | None, iou_thr: float, num_models: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters by falling score; shapes as in `mamba_yolo.ops.weighted_box_fusion`."""
    boxes_N4, scores_N = boxes_N4.float(), scores_N.float()
    refuse_nan(boxes_N4, scores_N)
    first: list[int] = []
    members: list[list[int]] = []
    fused_M4 = torch.empty(0, 4)
    for i in scores_N.argsort(descending=True, stable=True).tolist():
        overlap_M = _overlap(boxes_N4[i], fused_M4, distance=False)
        apart_M = torch.zeros(len(first), dtype=torch.bool)
        if classes_N is not None:
            apart_M = classes_N[first] != classes_N[i]
        overlap_M = torch.where(apart_M | ~(overlap_M.double() > iou_thr), -1.0, overlap_M)
        if len(first) and overlap_M.max() >= 0:
            place = int(overlap_M.argmax())
            members[place].append(i)
        else:
            place = len(first)
            first.append(i)
            members.append([i])
            fused_M4 = torch.cat([fused_M4, boxes_N4[i : i + 1]])
        weight_K1, weights = scores_N[members[place], None].double(), scores_N[members[place]].double().sum()
        if weights > 0:
            fused_M4[place] = ((boxes_N4[members[place]] * weight_K1).sum(0) / weights).float()
    shares = [min(len(m), num_models) / num_models for m in members]
    means = [float(scores_N[m].double().mean()) * share for m, share in zip(members, shares, strict=True)]
    fused_scores_M = torch.tensor(means, dtype=torch.float32)
    order_M = fused_scores_M.argsort(descending=True, stable=True)
    return fused_M4[order_M], fused_scores_M[order_M], torch.tensor(first, dtype=torch.int64)[order_M]


def _candidates(
    scores_AN: Tensor, conf_thr: float, multi_label: bool, classes: list[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor, class and score of what passes, anchor by anchor; by falling score if there were too many."""
    if multi_label:
        anchor_N, class_N = (scores_AN > conf_thr).nonzero(as_tuple=True)
    else:
        best_A = scores_AN.max(dim=1)
        anchor_N = (best_A.values > conf_thr).nonzero().flatten()
        class_N = best_A.indices[anchor_N]
    if classes is not None:
        wanted_N = torch.isin(class_N, torch.tensor(classes, dtype=torch.int64))
        anchor_N, class_N = anchor_N[wanted_N], class_N[wanted_N]
    score_N = scores_AN[anchor_N, class_N]
    if len(score_N) > MAX_CANDIDATES:
        top_N = score_N.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
        anchor_N, class_N, score_N = anchor_N[top_N], class_N[top_N], score_N[top_N]
    return anchor_N, class_N, score_N


def refuse_nan(*tensors: Tensor) -> None:
    """Raise DetectionError where a number is NaN."""
    if any(bool(tensor.isnan().any()) for tensor in tensors):
        raise DetectionError("boxes or scores are NaN; the model or its input is broken")


def _overlap(box_4: Tensor, boxes_N4: Tensor, *, distance: bool) -> Tensor:
    """IoU of one box with many, NaN where neither has an area; optionally less the centre distance term."""
    lo_N2 = torch.maximum(box_4[:2], boxes_N4[:, :2])
    hi_N2 = torch.minimum(box_4[2:], boxes_N4[:, 2:])
    inter_N = (hi_N2 - lo_N2).clamp(min=0).prod(1)
    area_N = (boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1])
    area = (box_4[2] - box_4[0]) * (box_4[3] - box_4[1])
    iou_N = inter_N / (area + area_N - inter_N)
    if not distance:
        return iou_N
    offset_N2 = (box_4[:2] + box_4[2:] - boxes_N4[:, :2] - boxes_N4[:, 2:]) / 2
    hull_N2 = torch.maximum(box_4[2:], boxes_N4[:, 2:]) - torch.minimum(box_4[:2], boxes_N4[:, :2])
    offset_N, hull_N = offset_N2[:, 0] ** 2 + offset_N2[:, 1] ** 2, hull_N2[:, 0] ** 2 + hull_N2[:, 1] ** 2
    return torch.where(hull_N > 0, iou_N - offset_N / hull_N, iou_N)
