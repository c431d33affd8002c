"""The scan on the CPU: allocates outputs and hands them to the Rust kernels; legend in `scan_op.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.ops._native import native

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.ops.scan_op import Inputs


def empty_checkpoints(x: Tensor, dt_weight: Tensor, A: Tensor) -> Tensor:
    """(B, G, K, ceil(L / T), N, W): room for the state before every T tokens."""
    lanes = native.SCAN_GROUP_BYTES // x.element_size()
    groups = (x.shape[2] + lanes - 1) // lanes
    tiles = (x.shape[1] + native.SCAN_TILE - 1) // native.SCAN_TILE
    return x.new_empty(x.shape[0], groups, dt_weight.shape[0], tiles, A.shape[1], lanes)


def run_forward(inputs: Inputs, grid: tuple[int, int], softplus: bool, save: bool) -> tuple[Tensor, Tensor | None]:
    """Output and, when they are to be saved, the checkpoints."""
    x, _, _, dt_weight, _, A, _ = inputs
    y = _dense(x)
    checkpoints = empty_checkpoints(x, dt_weight, A) if save else None
    native.scan_forward(inputs, y, checkpoints, _options(inputs, grid, softplus))
    return y, checkpoints


def run_backward(
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
