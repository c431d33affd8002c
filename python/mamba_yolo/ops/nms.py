"""Non-maximum suppression: exact per class, ties by index, no time limit, NaN is an error.

The definition is `nms_ref.py`; the Rust kernels are rust/src/nms. Tested in tests/ops/test_nms.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import choose_backend
from mamba_yolo.ops.nms_ref import nms_head_ref, nms_ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

KINDS = ("hard", "soft_linear", "soft_gaussian", "diou")
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
        ConfigError: unknown kind, threshold outside 0..1.
    """
    _check_nms(boxes_xyxy, scores, iou_thr, classes, kind)
    limit = _UNLIMITED if max_det is None else max_det
    cpu_boxes = boxes_xyxy.detach().to("cpu", torch.float32).contiguous()
    cpu_scores = scores.detach().to("cpu", torch.float32).contiguous()
    cpu_classes = None if classes is None else classes.detach().to("cpu", torch.int64).contiguous()
    if choose_backend(backend, cpu_boxes.device) == "reference":
        kept = nms_ref(cpu_boxes, cpu_scores, iou_thr, cpu_classes, limit, kind)
    else:
        class_ids = None if cpu_classes is None else cpu_classes.numpy()
        kept = torch.from_numpy(
            native.nms_boxes(cpu_boxes.numpy(), cpu_scores.numpy(), class_ids, iou_thr, limit, kind)
        )
    return kept.to(boxes_xyxy.device)


def nms_head(
    pred: Tensor,
    *,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool = False,
    agnostic: bool = False,
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
        max_det: most rows per image.
        num_classes: nc; None means that there are no extra rows.
        classes: keep only these.
        backend: as for `nms`.

    Raises:
        DetectionError: NaN among the scores, or a shape without room for the classes.
        ConfigError: thresholds outside 0..1.
    """
    if pred.ndim != 3 or pred.shape[1] < 4 + (num_classes or 0):
        raise DetectionError(f"pred must have shape (B, 4 + classes + extra, A), got {tuple(pred.shape)}")
    _check_fraction("conf_thr", conf_thr)
    _check_fraction("iou_thr", iou_thr)
    num_classes = pred.shape[1] - 4 if num_classes is None else num_classes
    wanted = None if classes is None else list(classes)
    cpu_pred = pred.detach().to("cpu", torch.float32).contiguous()
    if cpu_pred[:, 4 : 4 + num_classes].isnan().any():
        raise DetectionError("pred has NaN class scores; the model or its input is broken")
    options = {
        "conf_thr": conf_thr,
        "iou_thr": iou_thr,
        "multi_label": multi_label,
        "agnostic": agnostic,
        "max_det": max_det,
        "num_classes": num_classes,
        "classes": wanted,
    }
    if choose_backend(backend, cpu_pred.device) == "reference":
        rows = nms_head_ref(cpu_pred, **options)  # type: ignore[arg-type]
    else:
        arrays = native.nms_head(cpu_pred.numpy(), threads=torch.get_num_threads(), **options)  # type: ignore[arg-type]
        rows = [torch.from_numpy(a) for a in arrays]
    return [r.to(pred.device) for r in rows]


def _check_nms(boxes_xyxy: Tensor, scores: Tensor, iou_thr: float, classes: Tensor | None, kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    _check_fraction("iou_thr", iou_thr)
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4:
        raise DetectionError(f"boxes must have shape (N, 4), got {tuple(boxes_xyxy.shape)}")
    for name, values in (("scores", scores), ("classes", classes)):
        if values is not None and values.shape != boxes_xyxy.shape[:1]:
            raise DetectionError(f"{name} must have shape ({len(boxes_xyxy)},), got {tuple(values.shape)}")
    if boxes_xyxy.isnan().any() or scores.isnan().any():
        raise DetectionError("boxes or scores are NaN; the model or its input is broken")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be between 0 and 1, got {value}")
