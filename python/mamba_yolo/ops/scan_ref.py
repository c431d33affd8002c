"""The selective scan, defined in plain torch: any floating dtype, differentiable, one token at a time.

    delta_t = softplus(dt_t + bias);  h_t = exp(delta_t A) * h_{t-1} + delta_t u_t B_t;  y_t = C_t . h_t + D u_t

(arXiv 2312.00752 eq. 1-2 with the first-order input term; four directions: arXiv 2406.05835 SS2D.)
Everything fast is compared with this file: tests/ops/test_scan.py.

Legend: B batch, L tokens = H * W row-major, D channels, N states, R rank of dt, K = 4 directions, G groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from torch import Tensor

NUM_DIRECTIONS = 4


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan tokens in their order; shapes as in `mamba_yolo.ops.selective_scan`."""
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_BDL, delta_BDL = u.to(dtype), delta.to(dtype)
    if delta_bias is not None:
        delta_BDL = delta_BDL + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        delta_BDL = softplus(delta_BDL)
    B_BDNL, C_BDNL = (_per_channel(m.to(dtype), u.shape[1]) for m in (B, C))
    h_BDN = u_BDL.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for t in range(u.shape[2]):
        step = delta_BDL[:, :, t, None]
        h_BDN = torch.exp(step * A.to(dtype)) * h_BDN + step * u_BDL[:, :, t, None] * B_BDNL[..., t]
        ys.append((h_BDN * C_BDNL[..., t]).sum(-1))
    y_BDL = torch.stack(ys, dim=2) if ys else torch.zeros_like(u_BDL)
    if D is not None:
        y_BDL = y_BDL + D.to(dtype)[:, None] * u_BDL
    return y_BDL.to(u.dtype)


def ss2d_scan_ref(
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Scan a map in four directions and sum; shapes as in `mamba_yolo.ops.ss2d_scan`."""
    K, D, R = dt_weight.shape
    N = A_logs.shape[1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    dt_weight, dt_bias, A_logs, Ds = (p.to(dtype) for p in (dt_weight, dt_bias, A_logs, Ds))
    x_BLD, proj_BLKP = x.to(dtype), proj.to(dtype).reshape(*proj.shape[:2], K, R + 2 * N)
    y_BLD = torch.zeros_like(x_BLD)
    for k, order_L in enumerate(scan_orders(height, width, x.device)):
        u_BLD = x_BLD[:, order_L]
        dt_BLR, B_BLN, C_BLN = torch.split(proj_BLKP[:, order_L, k], [R, N, N], dim=2)
        y_BDL = selective_scan_ref(
            u_BLD.mT,
            (dt_BLR @ dt_weight[k].T).mT,
            -torch.exp(A_logs[k * D : (k + 1) * D]),
            B_BLN.mT,
            C_BLN.mT,
            Ds[k * D : (k + 1) * D],
            dt_bias[k],
            delta_softplus=True,
        )
        y_BLD = y_BLD.index_add(1, order_L, y_BDL.mT)
    return y_BLD.to(x.dtype)


def scan_orders(height: int, width: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Row-major token numbers in the order each direction visits them.

    0 row-major, 1 column-major, 2 = 0 reversed, 3 = 1 reversed.
    """
    rows_L = torch.arange(height * width, device=device)
    columns_L = rows_L.view(height, width).T.reshape(-1)
    return [rows_L, columns_L, rows_L.flip(0), columns_L.flip(0)]


def _per_channel(m: Tensor, num_channels: int) -> Tensor:
    """Give every channel its group's B or C: (B, N, L) or (B, G, N, L) to (B, 1 or D, N, L)."""
    if m.ndim == 3:
        return m[:, None]
    return m.repeat_interleave(num_channels // m.shape[1], dim=1)
