"""Non-maximum suppression, defined in plain torch: one candidate at a time, by falling score.

Rules: float32 arithmetic, overlap must be greater than the threshold, ties by index, classes apart
(torchvision's rule per class; soft: arXiv 1704.04503; DIoU: arXiv 1911.08287). Tested in tests/ops/test_nms.py.

Legend: N boxes, B images, A anchors, nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

GAUSSIAN_SIGMA = 0.5  # arXiv 1704.04503 §5.1
SCORE_FLOOR = 1e-3  # soft suppression drops what falls below
MAX_CANDIDATES = 30_000  # kept by score before suppression, as the field does


def nms_ref(
    boxes_N4: Tensor, scores_N: Tensor, iou_thr: float, classes_N: Tensor | None, max_det: int, kind: str
) -> Tensor:
    """Take the best box, lower or remove its rivals, repeat; shapes as in `mamba_yolo.ops.nms`."""
    scores_N = scores_N.clone()
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
    *,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> list[Tensor]:
    """Rows x1 y1 x2 y2 score class extra... of every image; shapes as in `mamba_yolo.ops.nms_head`."""
    return [
        _image_rows(pred_CA.T, conf_thr, iou_thr, multi_label, agnostic, max_det, num_classes, classes)
        for pred_CA in pred_BCA
    ]


def _image_rows(
    pred_AC: Tensor,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> Tensor:
    scores_AN = pred_AC[:, 4 : 4 + num_classes]
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
    centre_N2, half_N2 = pred_AC[anchor_N, 0:2], pred_AC[anchor_N, 2:4] / 2
    boxes_N4 = torch.cat([centre_N2 - half_N2, centre_N2 + half_N2], dim=1)
    kept = nms_ref(boxes_N4, score_N, iou_thr, None if agnostic else class_N, max_det, "hard")
    extra_NX = pred_AC[anchor_N, 4 + num_classes :]
    columns = [boxes_N4, score_N[:, None], class_N[:, None].to(pred_AC.dtype), extra_NX]
    return torch.cat(columns, dim=1)[kept]


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
