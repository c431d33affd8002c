"""Neighbours of the scan in one pass each: public functions, shape checks, choice between definition and kernels.

The definition is `fused_ref.py`; `fused_op.py` registers the kernels with torch. Tested in tests/ops/test_fused.py.

Legend: B batch, D channels, H W map, L = H * W tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mamba_yolo.errors import ShapeError
from mamba_yolo.ops.dispatch import choose_backend, in_dtype
from mamba_yolo.ops.fused_op import depthwise, norm
from mamba_yolo.ops.fused_ref import depthwise_gelu_ref, norm_gate_ref

if TYPE_CHECKING:
    from torch import Tensor


def depthwise_gelu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor | None = None,
    *,
    residual: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Filter every channel of a map, activate and gate it: gelu(conv3x3(x) + bias [+ x]) [* gate].

    Args:
        x: (B, D, H, W), any floating dtype, free of copies when channels-last, also as a slice of the channels of
            such a map; arithmetic is float32, or float64 for float64 input.
        weight: (D, 1, 3, 3), as of a depth-wise convolution padded by 1.
        bias: (D,).
        gate: (B, D, H, W), or None.
        residual: add x before the GELU.
        backend: auto, reference, rust or cuda.

    Returns:
        (B, D, H, W) in x's dtype.

    Raises:
        ShapeError: shapes or devices that do not fit together.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ShapeError(f"x must be a floating (B, D, H, W) tensor, got {x.dtype} {tuple(x.shape)}")
    _check("weight", weight, (x.shape[1], 1, 3, 3), x)
    _check("bias", bias, (x.shape[1],), x)
    if gate is not None:
        _check("gate", gate, x.shape, x)
    if choose_backend(backend, x.device) == "reference":
        return depthwise_gelu_ref(x, weight, bias, gate, residual=residual)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide_x, wide_weight, wide_bias = in_dtype(x, dtype), in_dtype(weight, dtype), in_dtype(bias, dtype)
    wide_gate = None if gate is None else in_dtype(gate, dtype)
    return in_dtype(depthwise(wide_x, wide_weight, wide_bias, wide_gate, residual), x.dtype)


def norm_gate(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float = 1e-5, *, backend: str = "auto"
) -> Tensor:
    """Norm tokens over their channels and gate them: layer_norm(x) * gelu(gate).

    Args:
        x: (B, L, D), any floating dtype, free of copies when tokens are evenly spaced and their channels adjacent;
            arithmetic is float32, or float64 for float64 input.
        weight: (D,) of the norm.
        bias: (D,) of the norm.
        gate: (B, L, D).
        eps: added to the variance.
        backend: auto, reference, rust or cuda.

    Returns:
        (B, L, D) in x's dtype.

    Raises:
        ShapeError: shapes or devices that do not fit together.
    """
    check_norm(x, weight, bias, gate)
    if choose_backend(backend, x.device) == "reference":
        return norm_gate_ref(x, weight, bias, gate, eps)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide_x, wide_weight, wide_bias = in_dtype(x, dtype), in_dtype(weight, dtype), in_dtype(bias, dtype)
    return in_dtype(norm(wide_x, wide_weight, wide_bias, in_dtype(gate, dtype), eps), x.dtype)


def check_norm(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor) -> None:
    """Raise ShapeError unless these are arguments of `norm_gate`."""
    if x.ndim != 3 or not x.is_floating_point():
        raise ShapeError(f"x must be a floating (B, L, D) tensor, got {x.dtype} {tuple(x.shape)}")
    _check("weight", weight, (x.shape[2],), x)
    _check("bias", bias, (x.shape[2],), x)
    _check("gate", gate, x.shape, x)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    if tensor.shape != shape:
        raise ShapeError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if tensor.device != like.device:
        raise ShapeError(f"{name} is on {tensor.device}, x on {like.device}; move it there")
