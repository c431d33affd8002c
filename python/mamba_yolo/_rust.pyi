"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous numpy arrays.

Legend: B images or batch, N boxes, A anchors, nc classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DEBUG_BUILD: bool
VERSION: str
SCAN_TILE: int
SCAN_GROUP_BYTES: int

def cpu_level() -> str:
    """Vector level of the kernels: scalar, avx2, avx512 or neon."""

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

def scan_forward_f32(
    sizes: tuple[int, int, int, int, int],
    grid: tuple[int, int] | None,
    x: npt.NDArray[np.float32],
    delta: npt.NDArray[np.float32] | None,
    proj: npt.NDArray[np.float32],
    dt_weight: npt.NDArray[np.float32],
    dt_bias: npt.NDArray[np.float32],
    a: npt.NDArray[np.float32],
    skip: npt.NDArray[np.float32],
    softplus: bool,
    y: npt.NDArray[np.float32],
    checkpoints: npt.NDArray[np.float32] | None,
    threads: int,
) -> None:
    """Fill y and the checkpoints; sizes are (B, L, D, N, R), grid (H, W) or None; see ops/scan_op.py."""

def scan_backward_f32(
    sizes: tuple[int, int, int, int, int],
    grid: tuple[int, int] | None,
    x: npt.NDArray[np.float32],
    delta: npt.NDArray[np.float32] | None,
    proj: npt.NDArray[np.float32],
    dt_weight: npt.NDArray[np.float32],
    dt_bias: npt.NDArray[np.float32],
    a: npt.NDArray[np.float32],
    skip: npt.NDArray[np.float32],
    softplus: bool,
    dy: npt.NDArray[np.float32],
    checkpoints: npt.NDArray[np.float32],
    threads: int,
) -> list[npt.NDArray[np.float32]]:
    """Gradients of x, delta, proj, dt_weight, dt_bias, a, skip, flat; see ops/scan_op.py."""

def scan_forward_f64(
    sizes: tuple[int, int, int, int, int],
    grid: tuple[int, int] | None,
    x: npt.NDArray[np.float64],
    delta: npt.NDArray[np.float64] | None,
    proj: npt.NDArray[np.float64],
    dt_weight: npt.NDArray[np.float64],
    dt_bias: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    skip: npt.NDArray[np.float64],
    softplus: bool,
    y: npt.NDArray[np.float64],
    checkpoints: npt.NDArray[np.float64] | None,
    threads: int,
) -> None:
    """Fill y and the checkpoints; sizes are (B, L, D, N, R), grid (H, W) or None; see ops/scan_op.py."""

def scan_backward_f64(
    sizes: tuple[int, int, int, int, int],
    grid: tuple[int, int] | None,
    x: npt.NDArray[np.float64],
    delta: npt.NDArray[np.float64] | None,
    proj: npt.NDArray[np.float64],
    dt_weight: npt.NDArray[np.float64],
    dt_bias: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    skip: npt.NDArray[np.float64],
    softplus: bool,
    dy: npt.NDArray[np.float64],
    checkpoints: npt.NDArray[np.float64],
    threads: int,
) -> list[npt.NDArray[np.float64]]:
    """Gradients of x, delta, proj, dt_weight, dt_bias, a, skip, flat; see ops/scan_op.py."""
