"""The scan with the norm and the gate that follow it, so that inference on a GPU merges, norms and gates in one pass.

Elsewhere it is `norm_gate` of `ss2d_scan`, which is its definition.

Test: tests/kernels/with_fake_driver_scan.py, tests/models/test_ss2d.py. Legend: as in `scan.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import register_flop_formula

from mamba_yolo.ops import scan_cuda
from mamba_yolo.ops.dispatch import choose_backend
from mamba_yolo.ops.fused import check_norm, norm_gate
from mamba_yolo.ops.scan import check_map, ss2d_scan
from mamba_yolo.ops.scan_op import scan_flops

if TYPE_CHECKING:
    from torch import Tensor


def ss2d_norm_gate(
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    height: int,
    width: int,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate: Tensor,
    eps: float = 1e-5,
    *,
    backend: str = "auto",
) -> Tensor:
    """Scan a map, norm its tokens over their channels, gate them: norm_gate(ss2d_scan(...), ...).

    Args:
        x: as the arguments down to width, as in `ss2d_scan`.
        proj: (B, L, K * (R + 2N)).
        dt_weight: (K, D, R).
        dt_bias: (K, D).
        A_logs: (K * D, N).
        Ds: (K * D,).
        height: H.
        width: W.
        norm_weight: (D,).
        norm_bias: (D,).
        gate: (B, L, D), rows evenly spaced.
        eps: added to the variance.
        backend: auto, reference, rust or cuda.

    Returns:
        (B, L, D) in x's dtype.

    Raises:
        ShapeError: shapes or devices that do not fit together.
    """
    scanned = (x, proj, dt_weight, dt_bias, A_logs, Ds)
    parameters = (norm_weight, norm_bias)
    if _in_one_pass(backend, (*scanned, *parameters, gate)):
        check_map(*scanned, (height, width))
        check_norm(x, *parameters, gate)
        A = -torch.exp(A_logs.float())
        wide = [t.float() for t in (dt_weight, dt_bias, A, Ds, *parameters)]
        fused: Tensor = torch.ops.mamba_yolo.scan_norm_gate(x, proj, *wide, gate, height, width, eps)
        return fused
    y = ss2d_scan(*scanned, height, width, backend=backend)
    return norm_gate(y, *parameters, gate, eps, backend="auto" if backend == "cuda" else backend)


def _in_one_pass(backend: str, tensors: tuple[Tensor, ...]) -> bool:
    """Whether the CUDA kernels take the tensors as they are, and no gradient is wanted."""
    x, proj, dt_weight, _, A_logs, *_, gate = tensors
    if x.device.type != "cuda" or proj.dtype != x.dtype or gate.dtype != x.dtype:
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    why_not = partial(scan_cuda.why_not, x, dt_weight.shape[2], A_logs.shape[1])
    return choose_backend(backend, x.device, why_not) == "cuda"


@torch.library.custom_op(
    "mamba_yolo::scan_norm_gate",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor x, Tensor proj, Tensor dt_weight, Tensor dt_bias, Tensor A, Tensor skip, Tensor norm_weight, "
    "Tensor norm_bias, Tensor gate, SymInt height, SymInt width, float eps) -> Tensor",
)
def _scan_norm_gate(
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate: Tensor,
    height: int,
    width: int,
    eps: float,
) -> Tensor:
    inputs = (x, None, proj, dt_weight, dt_bias, A, skip)
    return scan_cuda.run_norm_gate(inputs, (height, width), (norm_weight, norm_bias, gate), eps)


@_scan_norm_gate.register_fake
def _fake(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


@register_flop_formula(torch.ops.mamba_yolo.scan_norm_gate)
def _flops(x_shape: Any, *shapes: Any, **_: Any) -> int:
    """As of the scan: torch counts neither norms nor gates."""
    return scan_flops(x_shape, None, *shapes)
