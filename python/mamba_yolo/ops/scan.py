"""The selective scan: public functions, shape checks, and the choice between the definition and the kernels.

The definition is `scan_ref.py`; `scan_op.py` registers the kernels with torch. Tested in tests/ops/test_scan.py.

Legend: B batch, L tokens = H * W, D channels, N states, R rank of dt, K = 4 directions, G groups.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from mamba_yolo.errors import ShapeError
from mamba_yolo.ops import scan_cuda
from mamba_yolo.ops.dispatch import choose_backend, in_dtype
from mamba_yolo.ops.scan_op import scan
from mamba_yolo.ops.scan_ref import NUM_DIRECTIONS, selective_scan_ref, ss2d_scan_ref

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.ops.dispatch import Backend


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
    """Scan a sequence in its order, in the layout mamba users know (arXiv 2312.00752 eq. 2).

    Args:
        u: (batch, D, L), any floating dtype; state and exponentials are float32, or float64 for float64 input.
        delta: (batch, D, L), steps before bias and softplus.
        A: (D, N), any sign.
        B: (batch, N, L), or (batch, G, N, L) with D divisible by G.
        C: as B.
        D: (D,) skip, or None.
        delta_bias: (D,), or None.
        delta_softplus: take softplus(delta + bias) as the step.
        backend: auto, reference, rust or cuda.

    Returns:
        (batch, D, L) in u's dtype.

    Raises:
        ShapeError: shapes or devices that do not fit together.
    """
    _check_sequence(u, delta, A, B, C)
    _check_parameter("D", D, u.shape[1])
    _check_parameter("delta_bias", delta_bias, u.shape[1])
    chosen = choose_backend(backend, u.device, partial(scan_cuda.why_not, u, 0, A.shape[1]))
    if chosen == "reference":
        return selective_scan_ref(u, delta, A, B, C, D, delta_bias, delta_softplus)
    wide, dtype = _dtypes(chosen, u, delta, B, C)
    skip_D = u.new_zeros(u.shape[1]) if D is None else D
    bias_D = u.new_zeros(u.shape[1]) if delta_bias is None else delta_bias
    B_BGNL, C_BGNL = (m[:, None] if m.ndim == 3 else m for m in (B, C))
    size = u.shape[1] // max(B_BGNL.shape[1], 1)
    ys = []
    for group in range(B_BGNL.shape[1]):
        span = slice(group * size, (group + 1) * size)
        proj_BLP = torch.cat([B_BGNL[:, group], C_BGNL[:, group]], dim=1).mT
        y_BLD = scan(
            u[:, span].mT.to(dtype),
            delta[:, span].mT.to(dtype),
            proj_BLP.to(dtype),
            u.new_empty(1, size, 0).to(wide),
            bias_D[None, span].to(wide),
            A[span].to(wide),
            skip_D[span].to(wide),
            (0, 0),
            delta_softplus,
        )
        ys.append(y_BLD.mT)
    return torch.cat(ys, dim=1).to(u.dtype)


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
    """Scan a map in four directions and sum the results (arXiv 2406.05835, SS2D); nothing is permuted in memory.

    Args:
        x: (B, L, D), channels last, row-major tokens, any floating dtype; the state is float32, or float64 for float64.
        proj: (B, L, K * (R + 2N)), per direction [dt | B | C].
        dt_weight: (K, D, R).
        dt_bias: (K, D).
        A_logs: (K * D, N); A = -exp(A_logs).
        Ds: (K * D,) skip.
        height: H, with H * W = L.
        width: W.
        backend: auto, reference, rust or cuda.

    Returns:
        (B, L, D) in x's dtype.

    Raises:
        ShapeError: shapes or devices that do not fit together.
    """
    check_map(x, proj, dt_weight, dt_bias, A_logs, Ds, (height, width))
    chosen = choose_backend(backend, x.device, partial(scan_cuda.why_not, x, dt_weight.shape[2], A_logs.shape[1]))
    if chosen == "reference":
        return ss2d_scan_ref(x, proj, dt_weight, dt_bias, A_logs, Ds, height, width)
    wide, dtype = _dtypes(chosen, x, proj)
    y_BLD = scan(
        in_dtype(x, dtype),
        None,
        in_dtype(proj, dtype),
        in_dtype(dt_weight, wide),
        in_dtype(dt_bias, wide),
        -torch.exp(in_dtype(A_logs, wide)),
        in_dtype(Ds, wide),
        (height, width),
        True,
    )
    return in_dtype(y_BLD, x.dtype)


def _dtypes(backend: Backend, x: Tensor, *others: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Dtypes of state and parameters, and of the tensors with tokens, which CUDA kernels read in half precision too."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    narrow = backend == "cuda" and all(t.dtype == x.dtype for t in others)
    return wide, x.dtype if narrow else wide


def _check_sequence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    if u.ndim != 3 or not u.is_floating_point():
        raise ShapeError(f"u must be a floating (batch, D, L) tensor, got {u.dtype} {tuple(u.shape)}")
    batch, channels, length = u.shape
    _check("delta", delta, (batch, channels, length), u)
    if A.ndim != 2:
        raise ShapeError(f"A must have shape (D, N), got {tuple(A.shape)}")
    _check("A", A, (channels, A.shape[1]), u)
    for name, m in (("B", B), ("C", C)):
        groups = B.shape[1:2] if B.ndim == 4 else ()
        _check(name, m, (batch, *groups, A.shape[1], length), u)
    if B.ndim == 4 and (B.shape[1] == 0 or channels % B.shape[1]):
        raise ShapeError(f"D = {channels} must be divisible by the {B.shape[1]} groups of B and C")


def check_map(
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    grid: tuple[int, int],
) -> None:
    """Raise ShapeError unless these are arguments of `ss2d_scan`."""
    if x.ndim != 3 or not x.is_floating_point():
        raise ShapeError(f"x must be a floating (B, L, D) tensor, got {x.dtype} {tuple(x.shape)}")
    batch, length, channels = x.shape
    if grid[0] * grid[1] != length or min(grid) < 0:
        raise ShapeError(f"height * width must be L = {length}, got {grid[0]} * {grid[1]}")
    if dt_weight.ndim != 3 or A_logs.ndim != 2:
        raise ShapeError(
            f"dt_weight must have shape (4, D, R) and A_logs (4 D, N), got {tuple(dt_weight.shape)} "
            f"and {tuple(A_logs.shape)}"
        )
    rank, states = dt_weight.shape[2], A_logs.shape[1]
    _check("proj", proj, (batch, length, NUM_DIRECTIONS * (rank + 2 * states)), x)
    _check("dt_weight", dt_weight, (NUM_DIRECTIONS, channels, rank), x)
    _check("dt_bias", dt_bias, (NUM_DIRECTIONS, channels), x)
    _check("A_logs", A_logs, (NUM_DIRECTIONS * channels, states), x)
    _check("Ds", Ds, (NUM_DIRECTIONS * channels,), x)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    if tensor.shape != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.device != like.device:
        raise ShapeError(f"{name} is on {tensor.device}, the first input on {like.device}; move it there")


def _check_parameter(name: str, parameter: Tensor | None, channels: int) -> None:
    if parameter is not None and parameter.shape != (channels,):
        raise ShapeError(f"{name} must have shape ({channels},), got {tuple(parameter.shape)}")
