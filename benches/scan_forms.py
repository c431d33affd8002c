"""The scans of mamba-yolo-t at 640 px: their inputs, and the forms in which plain torch can compute them.

Steps are 0.001 to about 0.025 and A is -1 to -16, which every form here, gradients included, computes exactly enough.
Legend: as in `mamba_yolo.ops.scan`.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import peers
from mamba_yolo.ops.scan_ref import scan_orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

STATES, DIRECTIONS = 16, 4
CHUNKS = (16, 64)


class Block(NamedTuple):
    """A scan of the network: square map, channels, rank, and how many there are."""

    side: int
    channels: int
    rank: int
    count: int = 1

    @property
    def updates(self) -> int:
        """State updates of one scan, all directions."""
        return self.side**2 * self.channels * STATES * DIRECTIONS


BLOCKS = {
    "P2": Block(160, 64, 2, 1),
    "P3": Block(80, 128, 4, 2),
    "P4": Block(40, 256, 8, 5),
    "P5": Block(20, 512, 16, 2),
}


def inputs(block: Block, requires_grad: bool = False) -> list[Any]:
    """Arguments of `ss2d_scan`."""
    rng = torch.Generator().manual_seed(0)
    tokens, channels, rank = block.side**2, block.channels, block.rank
    steps = torch.exp(torch.empty(DIRECTIONS, channels).uniform_(math.log(1e-3), math.log(0.02), generator=rng))
    tensors = [
        torch.randn(1, tokens, channels, generator=rng),
        torch.randn(1, tokens, DIRECTIONS * (rank + 2 * STATES), generator=rng),
        torch.randn(DIRECTIONS, channels, rank, generator=rng) * 0.1 / rank**0.5,
        torch.log(torch.expm1(steps)),
        torch.arange(1.0, STATES + 1).log().repeat(DIRECTIONS * channels, 1),
        torch.ones(DIRECTIONS * channels),
    ]
    return [*(t.requires_grad_(requires_grad) for t in tensors), block.side, block.side]


def torch_forms() -> dict[str, Callable[..., Tensor]]:
    """Name to function, with the arguments of `ss2d_scan`."""
    forms = {f"chunks of {n}": functools.partial(_four_directions, functools.partial(_in_chunks, n)) for n in CHUNKS}
    if peers.version("mambapy"):
        forms["mambapy"] = functools.partial(_four_directions, _by_pscan)
    return forms


def _four_directions(
    states_of: Callable[..., Tensor],
    x: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    height: int,
    width: int,
) -> Tensor:
    channels, rank = dt_weight.shape[1:]
    y_BLD = torch.zeros_like(x)
    rows = proj.reshape(*proj.shape[:2], DIRECTIONS, rank + 2 * STATES)
    for k, order in enumerate(scan_orders(height, width)):
        dt, B, C = torch.split(rows[:, order, k], [rank, STATES, STATES], dim=2)
        step_BLD = torch.nn.functional.softplus(dt @ dt_weight[k].T + dt_bias[k])
        span = slice(k * channels, (k + 1) * channels)
        u_BLD = x[:, order]
        y = states_of(step_BLD, -A_logs[span].exp(), step_BLD * u_BLD, B, C)
        y_BLD = y_BLD.index_add(1, order, y + Ds[span] * u_BLD)
    return y_BLD


def _in_chunks(chunk: int, step: Tensor, A: Tensor, driven: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Cumulative sums within chunks, divided by the decay: quick, but underflows where a chunk decays by e^-87."""
    h = step.new_zeros(step.shape[0], *A.shape)
    ys = []
    # Split once: the gradient of a slice is as large as what it was taken from.
    for step_c, driven_c, B_c, C_c in zip(*(t.split(chunk, dim=1) for t in (step, driven, B, C)), strict=True):
        decay = (step_c[..., None] * A).cumsum(1).exp()
        states = decay * ((driven_c[..., None] * B_c[:, :, None] / decay).cumsum(1) + h[:, None])
        ys.append((states @ C_c[..., None]).squeeze(-1))
        h = states[:, -1]
    return torch.cat(ys, dim=1)


def _by_pscan(step: Tensor, A: Tensor, driven: Tensor, B: Tensor, C: Tensor) -> Tensor:
    from mambapy.pscan import pscan

    states = pscan((step[..., None] * A).exp(), driven[..., None] * B[:, :, None])
    return (states @ C[..., None]).squeeze(-1)
