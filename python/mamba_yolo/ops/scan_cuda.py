"""The scan on a GPU: allocates outputs and workspace with torch and launches the kernels of cuda/.

Layouts, grids and the sequence of launches are those of cuda/README.md, "Interface". How many segments a sequence is
cut into depends on the shape and the GPU alone, so repeated runs give the same bits. Tested on the kernels' CPU twin:
tests/kernels/with_fake_driver_scan.py.

Legend: as in `scan_op.py`; S segments, M blocks of 16 states, T the dtype of x, delta, proj and y,
Q = K D (N + R + 2) parameters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mamba_yolo.errors import ShapeError
from mamba_yolo.ops import _cuda
from mamba_yolo.ops.cuda_arguments import NORM_GATE, SCAN_BACKWARD, SCAN_FORWARD, SCAN_SUM
from mamba_yolo.ops.fused_op import token_stride
from mamba_yolo.ops.scan_plan import CHUNK_TOKENS, STATES, ceil_div, plan_forward, segment_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.ops._cuda import Gpu
    from mamba_yolo.ops.scan_op import Inputs

SUFFIXES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
LARGEST_RANK = 36  # the backward kernel's shared memory: 4 (6828 + 148 R) <= 48 KiB
ADJOINT_CHANNELS, BACKWARD_CHANNELS = 128, 64  # of a block
THREADS, TOKENS_PER_BLOCK, SUMS_PER_BLOCK = 128, 4, 512  # of norm_gate and scan_sum
_ALIGNMENT_BYTES = 16


def why_not(x: Tensor, rank: int, states: int) -> str | None:
    """Why a tensor on a GPU cannot be scanned by the kernels, in one sentence; None when it can."""
    if x.dtype not in SUFFIXES:
        return f"the CUDA kernels take float32, float16 and bfloat16, the tensor is {x.dtype}"
    if rank > LARGEST_RANK or states < 1:
        return f"the CUDA kernels take a rank of dt up to {LARGEST_RANK} and at least 1 state, got {rank} and {states}"
    reason: str | None = _cuda.why_not(x.device.index or 0)
    return reason


def empty_checkpoints(x: Tensor, dt_weight: Tensor, A: Tensor) -> Tensor:
    """(B, K, ceil(L / 16), N, D) float32: room for the state before every 16 tokens."""
    chunks = ceil_div(x.shape[1], CHUNK_TOKENS)
    return _empty(x, x.shape[0], dt_weight.shape[0], chunks, A.shape[1], x.shape[2])


def run_forward(inputs: Inputs, grid: tuple[int, int], softplus: bool, save: bool) -> tuple[Tensor, Tensor | None]:
    """Output and, when they are to be saved, the checkpoints."""
    inputs = _prepared(inputs)
    x, _, _, dt_weight, _, A, _ = inputs
    y = torch.empty_like(x)
    checkpoints = empty_checkpoints(x, dt_weight, A) if save else None
    if y.numel():
        gpu = _cuda.gpu(x.get_device())
        _sum_planes(gpu, _scan_parts(gpu, inputs, checkpoints, grid, softplus), y)
    return y, checkpoints


def run_backward(
    dy: Tensor, inputs: Inputs, checkpoints: Tensor, grid: tuple[int, int], softplus: bool
) -> tuple[Tensor | None, ...]:
    """Gradient of every input."""
    inputs = _prepared(inputs)
    x, delta, proj, dt_weight, dt_bias, A, skip = inputs
    if not x.numel():
        return tuple(None if t is None else torch.zeros_like(t) for t in inputs)
    gpu = _cuda.gpu(x.get_device())
    dy = _aligned(dy.to(x.dtype))
    parts, ddelta, dproj, dparameters = _scan_back(gpu, dy, inputs, checkpoints, grid, softplus)
    d_x = torch.empty_like(x)
    _sum_planes(gpu, parts, d_x)
    gradients, offset = [], 0
    for parameter in (A, dt_weight, dt_bias, skip):
        gradients.append(torch.empty_like(parameter))
        _sum(gpu, dparameters, offset, dparameters.shape[-1], math.prod(dparameters.shape[:-1]), gradients[-1])
        offset += parameter.numel()
    d_A, d_dt_weight, d_dt_bias, d_skip = gradients
    d_delta = None if ddelta is None or delta is None else _summed(gpu, ddelta, delta)
    return d_x, d_delta, _summed(gpu, dproj, proj), d_dt_weight, d_dt_bias, d_A, d_skip


def run_norm_gate(inputs: Inputs, grid: tuple[int, int], norm: tuple[Tensor, Tensor, Tensor], eps: float) -> Tensor:
    """Layer norm of the scan times gelu(gate), without gradients; norm is (weight, bias, gate)."""
    inputs = _prepared(inputs)
    x = inputs[0]
    y = torch.empty_like(x)
    if not y.numel():
        return y
    weight, bias, gate = norm[0].contiguous(), norm[1].contiguous(), norm[2]
    stride = token_stride(gate)
    if stride < x.shape[2]:
        gate, stride = gate.contiguous(), x.shape[2]
    gpu = _cuda.gpu(x.get_device())
    parts = _scan_parts(gpu, inputs, None, grid, True)
    planes, batch, length, channels = parts.shape
    tokens = batch * length
    fields = (*map(_address, (parts, weight, bias, gate, y)), tokens, stride, channels, planes, 0, eps)
    blocks = ceil_div(tokens, TOKENS_PER_BLOCK)
    gpu.launch(f"norm_gate_{SUFFIXES[x.dtype]}", blocks, THREADS, 0, NORM_GATE, *fields)
    return y


def _scan_parts(gpu: Gpu, inputs: Inputs, checkpoints: Tensor | None, grid: tuple[int, int], softplus: bool) -> Tensor:
    """(parts, B, L, D) float32, whose sum is the scan: of each direction, or pair of them, and block of states."""
    x, delta, proj, dt_weight, dt_bias, A, skip = inputs
    batch, length, channels = x.shape
    directions, _, rank = dt_weight.shape
    states = A.shape[1]
    plan = plan_forward(batch, length, channels, states, rank, directions, delta is None, gpu.num_processors)
    parts = _empty(x, plan.parts, batch, length, channels)
    ends, steps = _segment_summaries(x, directions, plan.segments, states)
    arguments = (
        *map(_address, (x, delta, proj, dt_weight, dt_bias, A, skip, ends, steps, parts, checkpoints)),
        *(batch, length, channels, states, rank, directions, *grid, softplus, plan.segments, plan.segment_tokens, 0),
    )
    suffix, threads, shared_bytes = SUFFIXES[x.dtype], plan.threads, plan.shared_bytes
    if plan.segments > 1:
        blocks = plan.blocks // plan.segments * (plan.segments - 1)
        gpu.launch(f"scan_summary_{suffix}", blocks, threads, shared_bytes, SCAN_FORWARD, *arguments)
    gpu.launch(f"{plan.kernel}_{suffix}", plan.blocks, threads, shared_bytes, SCAN_FORWARD, *arguments)
    return parts


def _scan_back(
    gpu: Gpu, dy: Tensor, inputs: Inputs, checkpoints: Tensor, grid: tuple[int, int], softplus: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Gradients in float32, still to be summed over all but their last dimensions: of x, delta, proj, parameters."""
    x, delta, proj, dt_weight, dt_bias, A, skip = inputs
    batch, length, channels = x.shape
    directions, _, rank = dt_weight.shape
    states, planes = A.shape[1], ceil_div(A.shape[1], STATES)
    tiles = ceil_div(channels, BACKWARD_CHANNELS)
    sequences = batch * directions * planes * tiles
    each = segment_tokens(length, sequences * BACKWARD_CHANNELS // 32, gpu.num_processors)
    segments = ceil_div(length, each)
    parts = _empty(x, planes * directions, batch, length, channels)
    ddelta = None if delta is None else _empty(x, planes, *delta.shape)
    dproj = _empty(x, planes * tiles, *proj.shape)
    dparameters = _empty(x, batch, segments, planes, directions * channels * (states + rank + 2))
    ends, steps = _segment_summaries(x, directions, segments, states)
    outputs = (ends, steps, parts, ddelta, dproj, dparameters)
    arguments = (
        *map(_address, (dy, x, delta, proj, dt_weight, dt_bias, A, skip, checkpoints, *outputs)),
        *(batch, length, channels, states, rank, directions, *grid, softplus, segments, each, 0),
    )
    suffix = SUFFIXES[x.dtype]
    if segments > 1:
        adjoint_tiles = ceil_div(channels, ADJOINT_CHANNELS)
        threads = 32 * ceil_div(ceil_div(channels, adjoint_tiles), 32)
        blocks, shared_bytes = sequences // tiles * adjoint_tiles * (segments - 1), 4 * (1056 + 164 * rank)
        gpu.launch(f"scan_adjoint_{suffix}", blocks, threads, shared_bytes, SCAN_BACKWARD, *arguments)
    shared_bytes = 4 * (6828 + 148 * rank)
    blocks = sequences * segments
    gpu.launch(f"scan_backward_{suffix}", blocks, BACKWARD_CHANNELS, shared_bytes, SCAN_BACKWARD, *arguments)
    return parts, ddelta, dproj, dparameters


def _segment_summaries(x: Tensor, directions: int, segments: int, states: int) -> tuple[Tensor | None, Tensor | None]:
    """Room for the state and the sum of steps at the end of every segment but one."""
    if segments == 1:
        return None, None
    shape = (x.shape[0], directions, segments - 1)
    return _empty(x, *shape, states, x.shape[2]), _empty(x, *shape, x.shape[2])


def _summed(gpu: Gpu, parts: Tensor, like: Tensor) -> Tensor:
    """The sum over the first dimension, in another dtype; the parts themselves where there is nothing to do."""
    if parts.shape[0] == 1 and like.dtype == torch.float32:
        return parts[0]
    out = torch.empty_like(like)
    _sum_planes(gpu, parts, out)
    return out


def _sum_planes(gpu: Gpu, parts: Tensor, out: Tensor) -> None:
    """Sum over the first dimension."""
    _sum(gpu, parts, 0, out.numel(), parts.shape[0], out)


def _sum(gpu: Gpu, parts: Tensor, offset: int, stride: int, summands: int, out: Tensor) -> None:
    """Sum out.numel() values that begin at an offset and repeat after every stride."""
    if out.numel():
        address = _address(parts) + offset * parts.element_size()
        fields = (address, _address(out), out.numel(), stride, summands, 0)
        blocks = ceil_div(out.numel(), SUMS_PER_BLOCK)
        gpu.launch(f"scan_sum_{SUFFIXES[out.dtype]}", blocks, THREADS, 0, SCAN_SUM, *fields)


def _empty(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=torch.float32)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _prepared(inputs: Inputs) -> Inputs:
    """The inputs, contiguous and aligned.

    Raises:
        ShapeError: dtypes or devices that the kernels do not take.
    """
    x, delta, proj, *parameters = inputs
    maps = [t for t in (x, delta, proj) if t is not None]
    if x.dtype not in SUFFIXES or any(t.dtype != x.dtype for t in maps):
        raise ShapeError(f"x, delta and proj must share float32, float16 or bfloat16, got {[t.dtype for t in maps]}")
    if any(t.dtype != torch.float32 for t in parameters):
        raise ShapeError(f"parameters of a scan on a GPU must be float32, got {[t.dtype for t in parameters]}")
    if any(t.device != x.device for t in (*maps, *parameters)):
        raise ShapeError(f"all tensors of a scan must be on {x.device}; move them there")
    return tuple(None if t is None else _aligned(t) for t in inputs)  # type: ignore[return-value]


def _aligned(tensor: Tensor) -> Tensor:
    """Contiguous, at an address that wide loads may start from."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % _ALIGNMENT_BYTES == 0 else tensor.clone()
