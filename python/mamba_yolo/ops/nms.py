"""Non-maximum suppression: exact per class, ties by index, no time limit, NaN is an error.

The definitions are `nms_ref.py` and `turned_ref.py`; the Rust kernels are rust/src/nms. Tests:
tests/ops/test_nms*.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops.dispatch import choose_backend
from mamba_yolo.ops.nms_op import fuse_rust, nms_head_rust, nms_rust, nms_turned_rust
from mamba_yolo.ops.nms_ref import fuse_ref, nms_head_ref, nms_ref
from mamba_yolo.ops.turned_ref import nms_turned_ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

KINDS = ("hard", "soft_linear", "soft_gaussian", "diou")
TURNED_KINDS = ("polygon", "gaussian")
_UNLIMITED = 2**62


def nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    iou_thr: float,
    *,
    classes: Tensor | None = None,
    max_det: int | None = None,
    kind: str = "hard",
    backend: str = "auto",
) -> Tensor:
    """Indices of the boxes that survive, by falling score (lowered score for the soft kinds), int64.

    Args:
        boxes_xyxy: (N, 4), any unit; compared in float32.
        scores: (N,).
        iou_thr: in 0..1; a box goes when its IoU with a better one of its class is greater.
        classes: (N,) integers, or None when all boxes compete.
        max_det: most boxes kept; None for all.
        kind: hard; diou (arXiv 1911.08287); soft_linear, soft_gaussian (arXiv 1704.04503).
        backend: auto, reference or rust; tensors on other devices are brought to the CPU and back.

    Raises:
        DetectionError: NaN, or shapes that do not fit.
        ConfigError: unknown kind, threshold outside 0..1, negative max_det.
    """
    _check_kind(kind, KINDS)
    _check_boxes(boxes_xyxy, scores, classes, iou_thr)
    limit = _UNLIMITED if max_det is None else _at_least("max_det", max_det, 0)
    boxes, scores, classes = _on_cpu(boxes_xyxy), _on_cpu(scores), None if classes is None else _on_cpu(classes)
    run = nms_ref if choose_backend(backend, boxes.device) == "reference" else nms_rust
    return run(boxes, scores, classes, iou_thr, limit, kind).to(boxes_xyxy.device)


def nms_turned(
    boxes_cxcywhr: Tensor,
    scores: Tensor,
    iou_thr: float,
    *,
    classes: Tensor | None = None,
    max_det: int | None = None,
    kind: str = "polygon",
    backend: str = "auto",
) -> Tensor:
    """Indices of the turned boxes that survive, by falling score, int64.

    Args:
        boxes_cxcywhr: (N, 5): centre, width, height, and the angle in radians by which the box is turned from x towards
            y, clockwise on a screen.
        scores: (N,).
        iou_thr: in 0..1; a box goes when its likeness to a better one of its class is greater.
        classes: (N,) integers, or None when all boxes compete.
        max_det: most boxes kept; None for all.
        kind: what likeness is: polygon, the IoU of the areas; gaussian, ProbIoU (arXiv 2106.06072).
        backend: as for `nms`.

    Raises:
        DetectionError: NaN, or shapes that do not fit.
        ConfigError: unknown kind, threshold outside 0..1, negative max_det.
    """
    _check_kind(kind, TURNED_KINDS)
    _check_boxes(boxes_cxcywhr, scores, classes, iou_thr, columns=5)
    limit = _UNLIMITED if max_det is None else _at_least("max_det", max_det, 0)
    boxes, scores, classes = _on_cpu(boxes_cxcywhr), _on_cpu(scores), None if classes is None else _on_cpu(classes)
    run = nms_turned_ref if choose_backend(backend, boxes.device) == "reference" else nms_turned_rust
    return run(boxes, scores, classes, iou_thr, limit, kind).to(boxes_cxcywhr.device)


def nms_head(
    pred: Tensor,
    *,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool = False,
    agnostic: bool = False,
    compat: bool = False,
    max_det: int = 300,
    num_classes: int | None = None,
    classes: Sequence[int] | None = None,
    backend: str = "auto",
) -> list[Tensor]:
    """Final rows of every image of a decoded head: (n, 6 + extra) float32, x1 y1 x2 y2 score class extra...

    Args:
        pred: (B, 4 + nc + extra, A) as `mamba_yolo.models.decode` returns it: cx cy w h, class scores, extra.
        conf_thr: in 0..1; candidates need a score above it.
        iou_thr: in 0..1; as for `nms`.
        multi_label: one candidate per anchor and class (validation), or the best class only (prediction).
        agnostic: let classes compete.
        compat: keep classes apart by shifting boxes 7680 pixels per class, as ultralytics does: the same rows as its,
            rounding of coordinates included.
        max_det: most rows per image.
        num_classes: nc; None means that there are no extra rows.
        classes: keep only these.
        backend: as for `nms`.

    Raises:
        DetectionError: NaN among boxes or scores, or a shape without room for the classes.
        ConfigError: thresholds outside 0..1, negative max_det, num_classes below 1.
    """
    if pred.ndim != 3 or pred.shape[1] < 4 + (num_classes or 1):
        raise DetectionError(f"pred must have shape (B, 4 + classes + extra, A), got {tuple(pred.shape)}")
    _check_fraction("conf_thr", conf_thr)
    _check_fraction("iou_thr", iou_thr)
    _at_least("max_det", max_det, 0)
    num_classes = pred.shape[1] - 4 if num_classes is None else _at_least("num_classes", num_classes, 1)
    wanted = None if classes is None else [c for c in classes if c >= 0]
    options = conf_thr, iou_thr, multi_label, agnostic, compat, max_det, num_classes, wanted
    on_cpu = _on_cpu(pred)
    if choose_backend(backend, on_cpu.device) == "reference":
        return [rows.to(pred.device) for rows in nms_head_ref(on_cpu, *options)]
    rows, counts = nms_head_rust(on_cpu, *options)
    return [image[:count].clone().to(pred.device) for image, count in zip(rows, counts.tolist(), strict=True)]


def weighted_box_fusion(
    boxes_xyxy: Tensor,
    scores: Tensor,
    iou_thr: float,
    *,
    classes: Tensor | None = None,
    num_models: int = 1,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that several models agree on, averaged (arXiv 1910.13302).

    By falling score, each box joins the fused box of its class that it overlaps most, or founds one; a fused box is the
    mean of its members weighted by their scores. To weigh models, multiply their scores.

    Args:
        boxes_xyxy: (N, 4) of all models together.
        scores: (N,).
        iou_thr: in 0..1; a box joins where its IoU is greater.
        classes: (N,) integers, or None for a single class.
        num_models: a fused box with fewer members has its mean score lowered in proportion.
        backend: as for `nms`.

    Returns:
        Boxes (M, 4) and scores (M,) by falling score, float32, and the index of the best member of each (M,).

    Raises:
        DetectionError: NaN, or shapes that do not fit.
        ConfigError: threshold outside 0..1, num_models below 1.
    """
    _check_boxes(boxes_xyxy, scores, classes, iou_thr)
    _at_least("num_models", num_models, 1)
    boxes, scores, classes = _on_cpu(boxes_xyxy), _on_cpu(scores), None if classes is None else _on_cpu(classes)
    run = fuse_ref if choose_backend(backend, boxes.device) == "reference" else fuse_rust
    fused, fused_scores, first = run(boxes, scores, classes, iou_thr, num_models)
    return fused.to(boxes_xyxy.device), fused_scores.to(boxes_xyxy.device), first.to(boxes_xyxy.device)


def _on_cpu(tensor: Tensor) -> Tensor:
    """Without a gradient; untouched where that is already so."""
    return (tensor.detach() if tensor.requires_grad else tensor).cpu()


def _check_kind(kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise ConfigError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")


def _check_boxes(boxes: Tensor, scores: Tensor, classes: Tensor | None, iou_thr: float, columns: int = 4) -> None:
    _check_fraction("iou_thr", iou_thr)
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        raise DetectionError(f"boxes must have shape (N, {columns}), got {tuple(boxes.shape)}")
    for name, values in (("scores", scores), ("classes", classes)):
        if values is not None and values.shape != boxes.shape[:1]:
            raise DetectionError(f"{name} must have shape ({len(boxes)},), got {tuple(values.shape)}")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be between 0 and 1, got {value}")


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ConfigError(f"{name} must be {least} or more, got {value}")
    return value
