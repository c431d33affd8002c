"""Selective scan: public functions, checks and choice of backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.ops.scan_ref import selective_scan_ref, ss2d_scan_ref

if TYPE_CHECKING:
    from torch import Tensor


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: str = "auto",
) -> Tensor:
    """Scan tokens in order."""
    return selective_scan_ref(u, delta, A, B, C, D, delta_bias, delta_softplus)


def ss2d_scan(
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    height: int,
    width: int,
    *,
    backend: str = "auto",
) -> Tensor:
    """Scan a map in four directions and sum."""
    return ss2d_scan_ref(x, proj, dt_weight, dt_bias, A_logs, Ds, height, width)
