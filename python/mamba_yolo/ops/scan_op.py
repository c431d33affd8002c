"""The scan as torch operators: `mamba_yolo::scan_forward` and `mamba_yolo::scan_backward`, in Rust and in CUDA.

One operator serves both public functions: a map has a grid (H, W) and projected steps, a sequence the grid (0, 0) and
given steps. Registered for autograd, fake tensors (compile, export) and the flop counter. `scan_rust.py` and
`scan_cuda.py` run it.

Legend: B batch, L tokens, D channels, N states, R rank of dt (0 when delta is given), K directions (4 or 1),
P = R + 2N, G groups of W channels (64 bytes), T tokens between checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from mamba_yolo.ops import scan_cuda, scan_rust
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

    On the CPU all tensors share one dtype, float32 or float64. On a GPU x, delta and proj share one (float32, float16,
    bfloat16), and the parameters are float32. Checkpoints are kept only where a gradient will be asked for.
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
    device_types=("cpu", "cuda"),
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
    return y, _no_checkpoints(x) if checkpoints is None else checkpoints


@torch.library.custom_op(
    "mamba_yolo::scan_backward",
    mutates_args=(),
    device_types=("cpu", "cuda"),
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
    y = x.new_empty(x.shape)
    return y, _kernels(x).empty_checkpoints(x, dt_weight, A) if save else _no_checkpoints(x)


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


def _no_checkpoints(x: Tensor) -> Tensor:
    return x.new_empty(0)


def _run_forward(inputs: Inputs, grid: tuple[int, int], softplus: bool, save: bool) -> tuple[Tensor, Tensor | None]:
    return _kernels(inputs[0]).run_forward(inputs, grid, softplus, save)  # type: ignore[no-any-return]


def _run_backward(
    dy: Tensor, inputs: Inputs, checkpoints: Tensor, grid: tuple[int, int], softplus: bool
) -> tuple[Tensor | None, ...]:
    return _kernels(inputs[0]).run_backward(dy, inputs, checkpoints, grid, softplus)  # type: ignore[no-any-return]


def _kernels(x: Tensor) -> Any:
    """The module whose kernels run where x lies."""
    return scan_cuda if x.device.type == "cuda" else scan_rust
