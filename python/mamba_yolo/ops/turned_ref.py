"""Suppression of turned boxes, defined in plain torch in float64: one box at a time, by falling score.

The overlap of two rectangles is the hull of their corners inside each other and of the crossings of their sides; the
likeness of their Gaussians is ProbIoU (arXiv 2106.06072). Tested in tests/ops/test_nms_turned.py.

Legend: N boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mamba_yolo.ops.nms_ref import refuse_nan

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE = 12.0  # that of a uniform distribution of width 1 is one in so many
SLACK = 1e-9  # of a side: corners on a side are inside


def nms_turned_ref(
    boxes_N5: Tensor, scores_N: Tensor, classes_N: Tensor | None, iou_thr: float, max_det: int, kind: str
) -> Tensor:
    """Take the best box, remove its rivals, repeat; shapes as in `mamba_yolo.ops.nms_turned`."""
    boxes_N5, scores_N = boxes_N5.float().double(), scores_N.float()
    refuse_nan(boxes_N5, scores_N)
    alike = {"polygon": _overlap, "gaussian": _prob_iou}[kind]
    alive_N = torch.ones(len(scores_N), dtype=torch.bool)
    kept: list[int] = []
    while alive_N.any() and len(kept) < max_det:
        best = int(torch.where(alive_N, scores_N, -torch.inf).argmax())
        kept.append(best)
        alive_N[best] = False
        rivals_N = alive_N if classes_N is None else alive_N & (classes_N == classes_N[best])
        rivals = rivals_N.nonzero().flatten()
        alive_N[rivals[alike(boxes_N5[best], boxes_N5[rivals]) > iou_thr]] = False
    return torch.tensor(kept, dtype=torch.int64)


def _corners(boxes_N5: Tensor) -> Tensor:
    """(N, 4, 2), one after the other around."""
    angle_N = boxes_N5[:, 4]
    turn_N22 = torch.stack([angle_N.cos(), -angle_N.sin(), angle_N.sin(), angle_N.cos()], -1).view(-1, 2, 2)
    signs_42 = boxes_N5.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    offsets_N42 = signs_42 * boxes_N5[:, None, 2:4].abs() / 2
    return boxes_N5[:, None, :2] + offsets_N42 @ turn_N22.mT


def _overlap(box_5: Tensor, boxes_N5: Tensor) -> Tensor:
    """IoU of one box with many, NaN where neither has an area."""
    moved_N5 = torch.cat([boxes_N5[:, :2] - box_5[:2], boxes_N5[:, 2:]], 1)
    ours_N5 = torch.cat([torch.zeros(2, dtype=torch.float64), box_5[2:]]).expand_as(boxes_N5)
    ours_N42, theirs_N42 = _corners(ours_N5), _corners(moved_N5)
    crossings_NX2, cross_NX = _crossings(ours_N42, theirs_N42)
    points_NX2 = torch.cat([ours_N42, theirs_N42, crossings_NX2], 1)
    inside_NX = torch.cat([_inside(ours_N42, moved_N5), _inside(theirs_N42, ours_N5), cross_NX], 1)
    common_N = _hull_area(points_NX2, inside_NX)
    return common_N / (box_5[2:4].prod().abs() + boxes_N5[:, 2:4].prod(1).abs() - common_N)


def _inside(points_NX2: Tensor, boxes_N5: Tensor) -> Tensor:
    """Whether points lie in a box: (N, X)."""
    angle_N1 = boxes_N5[:, 4:]
    x_NX, y_NX = (points_NX2 - boxes_N5[:, None, :2]).unbind(-1)
    along_NX, across_NX = x_NX * angle_N1.cos() + y_NX * angle_N1.sin(), y_NX * angle_N1.cos() - x_NX * angle_N1.sin()
    half_N2 = boxes_N5[:, 2:4].abs() / 2 * (1 + SLACK) + SLACK
    return (along_NX.abs() <= half_N2[:, :1]) & (across_NX.abs() <= half_N2[:, 1:])


def _crossings(a_N42: Tensor, b_N42: Tensor) -> tuple[Tensor, Tensor]:
    """Where every side of one crosses every side of the other: points (N, 16, 2), and whether they do (N, 16)."""
    p, q = a_N42[:, :, None], b_N42[:, None]
    r, s = a_N42.roll(-1, 1)[:, :, None] - p, b_N42.roll(-1, 1)[:, None] - q
    turn = _cross(r, s)
    t, u = _cross(q - p, s) / turn, _cross(q - p, r) / turn
    meet = (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)  # not for parallel sides, where both are NaN or infinite
    points = p + torch.where(meet, t, 0.0)[..., None] * r
    return points.flatten(1, 2), meet.flatten(1)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    """Of vectors (..., 2)."""
    product: Tensor = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    return product


def _hull_area(points_NX2: Tensor, is_corner_NX: Tensor) -> Tensor:
    """Area of the convex hull of the corners among points, which all lie on it."""
    count_N = is_corner_NX.sum(1)
    middle_N2 = (points_NX2 * is_corner_NX[..., None]).sum(1) / count_N.clamp(min=1)[:, None]
    offsets_NX2 = points_NX2 - middle_N2[:, None]
    angle_NX = torch.where(is_corner_NX, torch.atan2(offsets_NX2[..., 1], offsets_NX2[..., 0]), torch.inf)
    order_NX = angle_NX.argsort(dim=1)
    around_NX2 = offsets_NX2.gather(1, order_NX[..., None].expand_as(offsets_NX2))
    first_N12 = around_NX2[:, :1]
    behind_NX = torch.arange(points_NX2.shape[1]) >= count_N[:, None]
    around_NX2 = torch.where(behind_NX[..., None], first_N12, around_NX2)
    x_NX, y_NX = around_NX2.unbind(-1)
    area_N = (x_NX * y_NX.roll(-1, 1) - y_NX * x_NX.roll(-1, 1)).sum(1) / 2
    return torch.where(count_N > 2, area_N, 0.0)


def _spread(boxes_N5: Tensor) -> Tensor:
    """Variance of x and of y, and covariance: (3, N)."""
    width_N, height_N, angle_N = boxes_N5[..., 2:].unbind(-1)
    a_N, b_N, cos_N, sin_N = width_N**2 / VARIANCE, height_N**2 / VARIANCE, angle_N.cos(), angle_N.sin()
    across_N = a_N * sin_N**2 + b_N * cos_N**2
    return torch.stack([a_N * cos_N**2 + b_N * sin_N**2, across_N, (a_N - b_N) * cos_N * sin_N])


def _prob_iou(box_5: Tensor, boxes_N5: Tensor) -> Tensor:
    """1 less the Hellinger distance, NaN where neither has an area."""
    dx_N, dy_N = (box_5[:2] - boxes_N5[:, :2]).unbind(-1)
    ours_31, theirs_3N = _spread(box_5)[:, None], _spread(boxes_N5)
    a_N, b_N, c_N = (ours_31 + theirs_3N).unbind()
    both_N = a_N * b_N - c_N**2
    apart_N = (b_N * dx_N**2 - 2 * c_N * dx_N * dy_N + a_N * dy_N**2) / both_N / 4
    unlike_N = (both_N / (4 * (_determinant(ours_31) * _determinant(theirs_3N)).sqrt())).log() / 2
    return 1 - (-torch.expm1(-(apart_N + unlike_N.clamp(min=0)))).sqrt()


def _determinant(spread_3N: Tensor) -> Tensor:
    """Of symmetric matrices, which have no negative one: (N,)."""
    a_N, b_N, c_N = spread_3N.unbind()
    return (a_N * b_N - c_N**2).clamp(min=0)
