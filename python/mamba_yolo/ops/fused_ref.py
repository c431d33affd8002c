"""The neighbours of the scan, defined in plain torch: any floating dtype, any memory layout, differentiable.

    depthwise_gelu: gelu(conv3x3(x) + bias [+ x]) [* gate];    norm_gate: layer_norm(x) * gelu(gate)

with the exact GELU x cdf(x) (arXiv 1606.08415) and arithmetic in float32, or float64 for float64 input.
Everything fast is compared with this file: tests/ops/test_fused.py.

Legend: B batch, D channels, H W map, L = H * W tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def depthwise_gelu_ref(
    x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None = None, *, residual: bool = False
) -> Tensor:
    """Filter every channel, activate, gate; shapes as in `mamba_yolo.ops.depthwise_gelu`."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide_BDHW = x.to(dtype)
    y_BDHW = functional.conv2d(wide_BDHW, weight.to(dtype), bias.to(dtype), padding=1, groups=x.shape[1])
    y_BDHW = functional.gelu(y_BDHW + wide_BDHW if residual else y_BDHW)
    return (y_BDHW if gate is None else y_BDHW * gate.to(dtype)).to(x.dtype)


def norm_gate_ref(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float = 1e-5) -> Tensor:
    """Norm over channels, gate; shapes as in `mamba_yolo.ops.norm_gate`."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    y_BLD = functional.layer_norm(x.to(dtype), weight.shape, weight.to(dtype), bias.to(dtype), eps)
    return (y_BLD * functional.gelu(gate.to(dtype))).to(x.dtype)
