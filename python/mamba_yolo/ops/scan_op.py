"""The scan as torch operators: `mamba_yolo::scan_forward` and `mamba_yolo::scan_backward`, implemented in Rust.

One operator serves both public functions: a map has a grid (H, W) and projected steps, a sequence the grid (0, 0) and
given steps. Registered for autograd, fake tensors (compile, export) and the flop counter.

Legend: B batch, L tokens, D channels, N states, R rank of dt (0 when delta is given), K directions (4 or 1),
P = R + 2N, G groups of W channels (64 bytes), T tokens between checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import is_plain, needs_grad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    Inputs = tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor]

_INPUTS = "Tensor x, Tensor? delta, Tensor proj, Tensor dt_weight, Tensor dt_bias, Tensor A, Tensor skip"
_GRID = "SymInt height, SymInt width, bool softplus"
# Per state and token: s A, 2^x, a h, (s u) B, their sum, C h, its sum.
FLOPS_PER_UPDATE = 7


def scan(
    x: Tensor,
    delta: Tensor | None,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    grid: tuple[int, int],
    softplus: bool,
) -> Tensor:
    """Scan x (B, L, D), delta likewise or None, proj (B, L, K * P), parameters as K * D rows.

    All tensors share one dtype, float32 or float64. Checkpoints are kept only where a gradient will be asked for.
    Plain calls go straight to the kernel: the registered operator alone costs more than a small scan.
    """
    tensors = (x, delta, proj, dt_weight, dt_bias, A, skip)
    save = needs_grad(tensors)
    if is_plain(tensors):
        if save:
            return _Scan.apply(*tensors, grid, softplus)  # type: ignore[no-any-return]
        return _run_forward(tensors, grid, softplus, False)[0]
    y, _ = torch.ops.mamba_yolo.scan_forward(*tensors, *grid, softplus, save)
    return y  # type: ignore[no-any-return]


class _Scan(torch.autograd.Function):
    """The operator of plain calls that need a gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.grid, ctx.softplus = arguments
        y, checkpoints = _run_forward(tuple(tensors), ctx.grid, ctx.softplus, True)
        ctx.save_for_backward(*tensors, checkpoints)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        return *_run_backward(dy, tuple(tensors), checkpoints, ctx.grid, ctx.softplus), None, None


@torch.library.custom_op(
    "mamba_yolo::scan_forward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_GRID}, bool save) -> (Tensor, Tensor)",
)
def _forward(
    x: Tensor,
    delta: Tensor | None,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    height: int,
    width: int,
    softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    inputs = (x, delta, proj, dt_weight, dt_bias, A, skip)
    y, checkpoints = _run_forward(inputs, (height, width), softplus, save)
    return y, x.new_empty(0) if checkpoints is None else checkpoints


@torch.library.custom_op(
    "mamba_yolo::scan_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, {_INPUTS}, Tensor checkpoints, {_GRID}) -> Tensor[]",
)
def _backward(
    dy: Tensor,
    x: Tensor,
    delta: Tensor | None,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    checkpoints: Tensor,
    height: int,
    width: int,
    softplus: bool,
) -> list[Tensor]:
    inputs = (x, delta, proj, dt_weight, dt_bias, A, skip)
    gradients = _run_backward(dy, inputs, checkpoints, (height, width), softplus)
    return [g for g in gradients if g is not None]


@_forward.register_fake
def _forward_fake(
    x: Tensor,
    delta: Tensor | None,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    height: int,
    width: int,
    softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(_checkpoint_shape(x, dt_weight, A) if save else (0,))


@_backward.register_fake
def _backward_fake(
    dy: Tensor,
    x: Tensor,
    delta: Tensor | None,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    checkpoints: Tensor,
    height: int,
    width: int,
    softplus: bool,
) -> list[Tensor]:
    inputs = (x, delta, proj, dt_weight, dt_bias, A, skip)
    return [t.new_empty(t.shape) for t in inputs if t is not None]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.height, ctx.width, ctx.softplus, ctx.saved = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, dy: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 11
    if not ctx.saved:
        raise RuntimeError("mamba_yolo::scan_forward was called with save=False; its gradient needs save=True")
    *tensors, checkpoints = ctx.saved_tensors
    options = (ctx.height, ctx.width, ctx.softplus)
    gradients = torch.ops.mamba_yolo.scan_backward(dy, *tensors, checkpoints, *options)
    if tensors[1] is None:
        gradients.insert(1, None)
    return (*gradients, None, None, None, None)


_forward.register_autograd(_autograd, setup_context=_setup_context)


@register_flop_formula(torch.ops.mamba_yolo.scan_forward)
def scan_flops(x_shape: Sequence[int], *shapes: Any, **_: Any) -> int:
    """Operations of a forward scan: 7 per state update (an exponential counts as one) and 2 R per step projected."""
    _, _, dt_weight_shape, _, A_shape = shapes[:5]
    batch, length, channels = x_shape
    directions = A_shape[0] // max(channels, 1)
    return int(batch * length * channels * directions * (FLOPS_PER_UPDATE * A_shape[1] + 2 * dt_weight_shape[2]))


def _checkpoint_shape(x: Tensor, dt_weight: Tensor, A: Tensor) -> tuple[int, ...]:
    """(B, G, K, ceil(L / T), N, W): the state before every T tokens."""
    lanes = native.SCAN_GROUP_BYTES // x.element_size()
    groups = (x.shape[2] + lanes - 1) // lanes
    tiles = (x.shape[1] + native.SCAN_TILE - 1) // native.SCAN_TILE
    return (x.shape[0], groups, dt_weight.shape[0], tiles, A.shape[1], lanes)


def _run_forward(inputs: Inputs, grid: tuple[int, int], softplus: bool, save: bool) -> tuple[Tensor, Tensor | None]:
    """Output and, when they are to be saved, the checkpoints."""
    x, _, _, dt_weight, _, A, _ = inputs
    y = _dense(x)
    checkpoints = x.new_empty(_checkpoint_shape(x, dt_weight, A)) if save else None
    native.scan_forward(inputs, y, checkpoints, _options(inputs, grid, softplus))
    return y, checkpoints


def _run_backward(
    dy: Tensor, inputs: Inputs, checkpoints: Tensor, grid: tuple[int, int], softplus: bool
) -> tuple[Tensor | None, ...]:
    """Gradient of every input."""
    gradients = tuple(None if t is None else _dense(t) for t in inputs)
    native.scan_backward(inputs, dy, checkpoints, gradients, _options(inputs, grid, softplus))
    return gradients


def _options(inputs: Inputs, grid: tuple[int, int], softplus: bool) -> Any:
    x, delta, _, dt_weight, _, A, _ = inputs
    sizes = (*x.shape, A.shape[1], dt_weight.shape[2])
    return sizes, grid if delta is None else None, softplus, torch.get_num_threads()


def _dense(x: Tensor) -> Tensor:
    """Memory for a result of x's shape, row-major whatever x's strides are."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)
