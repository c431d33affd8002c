"""The neighbours of the scan as torch operators, implemented in Rust: `mamba_yolo::depthwise_*`, `mamba_yolo::norm_*`.

Registered for autograd, fake tensors (compile, export) and the flop counter. Inputs are read where they lie as long
as tokens are evenly spaced and their channels adjacent, so that halves of a wider map need no copy; results are dense.

Legend: B batch, D channels, H W map, L = H * W tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import is_plain, needs_grad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch._library.custom_ops import CustomOpDef

_DEPTHWISE_INPUTS = "Tensor x, Tensor weight, Tensor bias, Tensor? gate, bool residual"
_NORM_INPUTS = "Tensor x, Tensor weight, Tensor bias, Tensor gate, float eps"
FLOPS_PER_VALUE = 2 * 9  # what torch counts for the convolution alone


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None, residual: bool) -> Tensor:
    """Filter, activate and gate x: x and gate (B, D, H, W), weight (D, 1, 3, 3), all float32 or all float64.

    Plain calls go straight to the kernel: the registered operator alone costs more than a small map.
    """
    tensors = (x, weight, bias, gate)
    if is_plain(tensors):
        if needs_grad(tensors):
            return _Depthwise.apply(*tensors, residual)  # type: ignore[no-any-return]
        return _run_depthwise(*tensors, residual)
    return torch.ops.mamba_yolo.depthwise_forward(*tensors, residual)  # type: ignore[no-any-return]


def norm(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float) -> Tensor:
    """Norm and gate x: x and gate (B, L, D), weight and bias (D,), all float32 or all float64; as `depthwise`."""
    tensors = (x, weight, bias, gate)
    if is_plain(tensors):
        if needs_grad(tensors):
            return _Norm.apply(*tensors, eps)  # type: ignore[no-any-return]
        return _run_norm(*tensors, eps)
    return torch.ops.mamba_yolo.norm_forward(*tensors, eps)  # type: ignore[no-any-return]


def _run_depthwise(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None, residual: bool) -> Tensor:
    y = _depthwise_fake(x, weight, bias, gate, residual)
    inputs = (_map_tokens(x), weight, bias, None if gate is None else _map_tokens(gate))
    native.depthwise_forward(inputs, y.permute(0, 2, 3, 1), (_map_sizes(x), residual, torch.get_num_threads()))
    return y


def _run_depthwise_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None, residual: bool
) -> list[Tensor]:
    gradients = _depthwise_backward_fake(dy, x, weight, bias, gate, residual)
    d_x, d_weight, d_bias, *d_gate = gradients
    inputs = (_map_tokens(x), weight, bias, None if gate is None else _map_tokens(gate))
    native.depthwise_backward(
        inputs,
        _map_tokens(dy),
        (d_x.permute(0, 2, 3, 1), d_weight, d_bias, d_gate[0].permute(0, 2, 3, 1) if d_gate else None),
        (_map_sizes(x), residual, torch.get_num_threads()),
    )
    return gradients


def _run_norm(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float) -> Tensor:
    y = x.new_empty(x.shape)
    inputs = (_tokens(x), weight, bias, _tokens(gate))
    native.norm_forward(inputs, y, (_norm_sizes(x), eps, torch.get_num_threads()))
    return y


def _run_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float) -> list[Tensor]:
    gradients = _norm_backward_fake(dy, x, weight, bias, gate, eps)
    d_x, d_weight, d_bias, d_gate = gradients
    inputs = (_tokens(x), weight, bias, _tokens(gate))
    outputs = (d_x, d_weight, d_bias, d_gate)
    native.norm_backward(inputs, _tokens(dy), outputs, (_norm_sizes(x), eps, torch.get_num_threads()))
    return gradients


class _Depthwise(torch.autograd.Function):
    """The operator of plain calls that need a gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.residual = arguments
        ctx.save_for_backward(*tensors)
        return _run_depthwise(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gate = ctx.saved_tensors
        return _one_per_input(_run_depthwise_backward(dy, x, weight, bias, gate, ctx.residual))


class _Norm(torch.autograd.Function):
    """The operator of plain calls that need a gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.eps = arguments
        ctx.save_for_backward(*tensors)
        return _run_norm(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gate = ctx.saved_tensors
        return _one_per_input(_run_norm_backward(dy, x, weight, bias, gate, ctx.eps))


def _register(name: str, schema: str, kernel: Callable[..., Any]) -> CustomOpDef:
    return torch.library.custom_op(f"mamba_yolo::{name}", kernel, mutates_args=(), device_types="cpu", schema=schema)


_depthwise_forward = _register("depthwise_forward", f"({_DEPTHWISE_INPUTS}) -> Tensor", _run_depthwise)
_depthwise_backward = _register(
    "depthwise_backward", f"(Tensor dy, {_DEPTHWISE_INPUTS}) -> Tensor[]", _run_depthwise_backward
)
_norm_forward = _register("norm_forward", f"({_NORM_INPUTS}) -> Tensor", _run_norm)
_norm_backward = _register("norm_backward", f"(Tensor dy, {_NORM_INPUTS}) -> Tensor[]", _run_norm_backward)


def _depthwise_fake(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None, residual: bool) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _depthwise_backward_fake(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor | None, residual: bool
) -> list[Tensor]:
    maps = [_depthwise_fake(x, weight, bias, gate, residual) for _ in range(1 if gate is None else 2)]
    return [maps[0], weight.new_empty(weight.shape), bias.new_empty(bias.shape), *maps[1:]]


def _norm_fake(x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


def _norm_backward_fake(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, eps: float) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in (x, weight, bias, gate)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.option = inputs
    ctx.save_for_backward(*tensors)


def _depthwise_autograd(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return _one_per_input(torch.ops.mamba_yolo.depthwise_backward(dy, *ctx.saved_tensors, ctx.option))


def _norm_autograd(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return _one_per_input(torch.ops.mamba_yolo.norm_backward(dy, *ctx.saved_tensors, ctx.option))


_depthwise_forward.register_fake(_depthwise_fake)
_depthwise_backward.register_fake(_depthwise_backward_fake)
_norm_forward.register_fake(_norm_fake)
_norm_backward.register_fake(_norm_backward_fake)
_depthwise_forward.register_autograd(_depthwise_autograd, setup_context=_setup_context)
_norm_forward.register_autograd(_norm_autograd, setup_context=_setup_context)


@register_flop_formula(torch.ops.mamba_yolo.depthwise_forward)
def _depthwise_flops(x_shape: Sequence[int], *_: Any, **__: Any) -> int:
    """As of the convolution: torch counts neither activations nor gates."""
    batch, channels, height, width = x_shape
    return FLOPS_PER_VALUE * batch * channels * height * width


def _one_per_input(gradients: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight, bias, gate or None, and none of the option."""
    return (*gradients[:3], gradients[3] if len(gradients) > 3 else None, None)


def _map_sizes(x: Tensor) -> tuple[int, int, int, int]:
    batch, channels, height, width = x.shape
    return batch, height, width, channels


def _norm_sizes(x: Tensor) -> tuple[int, int]:
    return x.shape[0] * x.shape[1], x.shape[2]


def _map_tokens(x_BDHW: Tensor) -> tuple[Tensor, int]:
    return _tokens(x_BDHW.permute(0, 2, 3, 1))


def _tokens(x: Tensor) -> tuple[Tensor, int]:
    """The memory from the first value to the last as one dimension, and the stride between tokens; a copy if need be.

    Channels are the last dimension of x, all others count tokens.
    """
    channels = x.shape[-1]
    stride = token_stride(x)
    if stride < channels:
        x, stride = x.contiguous(), channels
    num_tokens = x.numel() // max(channels, 1)
    extent = (num_tokens - 1) * stride + channels if num_tokens else 0
    return x.as_strided((extent,), (1,)), stride


def token_stride(x: Tensor) -> int:
    """Values from a token to the next, or 0 where the distance varies or channels lie apart."""
    *sizes, channels = x.shape
    *strides, inner = x.stride()
    if inner != 1 and channels > 1:
        return 0
    steps = [(size, step) for size, step in zip(reversed(sizes), reversed(strides), strict=True) if size > 1]
    if not steps:
        return channels
    stride = span = steps[0][1]
    for size, step in steps:
        if step != span:
            return 0
        span = step * size
    return stride
