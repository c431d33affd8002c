"""NMS as torch operators: `mamba_yolo::nms`, `::nms_turned`, `::nms_head` and `::weighted_box_fusion`, in Rust.

Registered with fake tensors, so that compile and export pass through; plain calls go straight to the kernels. The head
has a shape that does not depend on the data: rows up to a limit, zeros behind, and a count per image.
Tested in tests/ops/test_nms_torch.py.

Legend: N boxes, B images, A anchors, nc classes, M rows of an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.errors import DetectionError
from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import is_plain
from mamba_yolo.ops.nms_ref import MAX_CANDIDATES

if TYPE_CHECKING:
    from torch import Tensor

_HEAD_OPTIONS = "float conf_thr, float iou_thr, bool multi_label, bool agnostic, bool compat"


def nms_rust(boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, max_det: int, kind: str) -> Tensor:
    """Indices kept of boxes (N, 4), scores (N,), classes (N,) or None; CPU tensors."""
    run = _run_nms if is_plain((boxes, scores, classes)) else torch.ops.mamba_yolo.nms
    return run(boxes, scores, classes, iou_thr, max_det, kind)


def nms_turned_rust(
    boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, max_det: int, kind: str
) -> Tensor:
    """Indices kept of boxes (N, 5), scores (N,), classes (N,) or None; CPU tensors."""
    run = _run_turned if is_plain((boxes, scores, classes)) else torch.ops.mamba_yolo.nms_turned
    return run(boxes, scores, classes, iou_thr, max_det, kind)


def nms_head_rust(
    pred: Tensor,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    compat: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> tuple[Tensor, Tensor]:
    """Rows (B, M, 6 + extra) and counts (B,) of pred (B, 4 + nc + extra, A) on the CPU."""
    run = _run_head if is_plain((pred,)) else torch.ops.mamba_yolo.nms_head
    return run(pred, conf_thr, iou_thr, multi_label, agnostic, compat, max_det, num_classes, classes)


def fuse_rust(
    boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, num_models: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Fused boxes (M, 4), their scores (M,) and the index of the best member of each (M,); CPU tensors."""
    run = _run_fusion if is_plain((boxes, scores, classes)) else torch.ops.mamba_yolo.weighted_box_fusion
    return run(boxes, scores, classes, iou_thr, num_models)


def _run_nms(boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, max_det: int, kind: str) -> Tensor:
    return _kept(native.nms_boxes, boxes, scores, classes, iou_thr, max_det, kind)


def _run_turned(
    boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, max_det: int, kind: str
) -> Tensor:
    return _kept(native.nms_turned, boxes, scores, classes, iou_thr, max_det, kind)


def _kept(
    call: Any, boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, max_det: int, kind: str
) -> Tensor:
    kept = torch.empty(min(len(boxes), max_det), dtype=torch.int64)
    try:
        count = call(_ready(boxes, scores, classes), kept, iou_thr, kind)
    except ValueError as error:
        raise DetectionError(str(error)) from None
    return kept[:count]


def _run_head(
    pred: Tensor,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    compat: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> tuple[Tensor, Tensor]:
    pred = pred.float().contiguous()
    rows = pred.new_empty(_rows_shape(pred, multi_label, max_det, num_classes))
    counts = torch.empty(len(pred), dtype=torch.int64)
    options = conf_thr, iou_thr, multi_label, agnostic, compat, max_det, classes
    sizes = pred.shape[1], pred.shape[2], num_classes
    try:
        native.nms_head(pred, rows, counts, sizes, options, torch.get_num_threads())
    except ValueError as error:
        raise DetectionError(str(error)) from None
    return rows, counts


def _run_fusion(
    boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, num_models: int
) -> tuple[Tensor, Tensor, Tensor]:
    number = len(boxes)
    fused = torch.empty(number, 4), torch.empty(number), torch.empty(number, dtype=torch.int64)
    try:
        count = native.fuse_boxes(_ready(boxes, scores, classes), fused, iou_thr, num_models)
    except ValueError as error:
        raise DetectionError(str(error)) from None
    return fused[0][:count], fused[1][:count], fused[2][:count]


def _ready(boxes: Tensor, scores: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return (
        boxes.float().contiguous(),
        scores.float().contiguous(),
        None if classes is None else classes.long().contiguous(),
    )


def _rows_shape(pred: Tensor, multi_label: bool, max_det: int, num_classes: int) -> tuple[int, int, int]:
    """(B, M, 6 + extra): no more rows than candidates."""
    per_anchor = num_classes if multi_label else 1
    return len(pred), min(max_det, MAX_CANDIDATES, pred.shape[2] * per_anchor), pred.shape[1] - num_classes + 2


def _define(name: str, schema: str, run: Any, fake: Any) -> None:
    operator = torch.library.custom_op(f"mamba_yolo::{name}", run, mutates_args=(), device_types="cpu", schema=schema)
    operator.register_fake(fake)


def _operator_head(pred: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    rows, counts = _run_head(pred, *options)
    behind = torch.arange(rows.shape[1]) >= counts[:, None]
    return rows.masked_fill_(behind[..., None], 0), counts


def _nms_fake(boxes: Tensor, *_: Any) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def _head_fake(
    pred: Tensor,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    compat: bool,
    max_det: int,
    num_classes: int,
    classes: list[int] | None,
) -> tuple[Tensor, Tensor]:
    rows = pred.new_empty(_rows_shape(pred, multi_label, max_det, num_classes), dtype=torch.float32)
    return rows, pred.new_empty(len(pred), dtype=torch.int64)


def _fusion_fake(boxes: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    fused = boxes.new_empty((number, 4), dtype=torch.float32)
    return fused, fused.new_empty(number), fused.new_empty(number, dtype=torch.int64)


_BOXES = "Tensor boxes, Tensor scores, Tensor? classes, float iou_thr"
_define("nms", f"({_BOXES}, SymInt max_det, str kind) -> Tensor", _run_nms, _nms_fake)
_define("nms_turned", f"({_BOXES}, SymInt max_det, str kind) -> Tensor", _run_turned, _nms_fake)
_define(
    "nms_head",
    f"(Tensor pred, {_HEAD_OPTIONS}, SymInt max_det, SymInt num_classes, int[]? classes) -> (Tensor, Tensor)",
    _operator_head,
    _head_fake,
)
_define("weighted_box_fusion", f"({_BOXES}, int num_models) -> (Tensor, Tensor, Tensor)", _run_fusion, _fusion_fake)
