"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous numpy arrays.

Legend: B images or batch, N boxes, A anchors, nc classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DEBUG_BUILD: bool
VERSION: str

def nms_boxes(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64] | None,
    iou_thr: float,
    max_det: int,
    kind: str,
) -> npt.NDArray[np.int64]:
    """Indices kept of boxes (N, 4), scores (N,), classes (N,); see ops/nms.py."""

def nms_head(
    pred: npt.NDArray[np.float32],
    *,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    max_det: int,
    num_classes: int,
    classes: Sequence[int] | None,
    threads: int,
) -> list[npt.NDArray[np.float32]]:
    """Final rows of every image of pred (B, 4 + nc + extra, A); see ops/nms.py."""
