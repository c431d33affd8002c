"""SS2D: a gated block around the four-direction selective scan (arXiv 2406.05835, 3.2; VMamba arXiv 2401.10166).

Tokens are the channels-last map itself: one projection gives step, B and C of all four directions, and the scan
reads them in four orders by index, so that nothing is permuted in memory. Test: tests/models/test_ss2d.py.

Legend: B batch, C channels, H W map, L = H * W tokens, D = 2C inner channels, K = 4 directions, N states, R rank of dt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_yolo.models.layers import DepthwiseGelu
from mamba_yolo.models.recompute import recomputed
from mamba_yolo.ops import norm_gate, ss2d_norm_gate, ss2d_scan

if TYPE_CHECKING:
    from mamba_yolo.config import Initialization

NUM_DIRECTIONS = 4
EXPANSION = 2  # D = 2C
CHANNELS_PER_RANK = 16  # R = ceil(C / 16)
ScanArguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int]
STEP_RANGE = (1e-3, 1e-1)  # first step sizes of the Mamba initialisation (arXiv 2312.00752, 3.6)


class SS2D(nn.Module):
    """Gated selective scan over a map in four directions."""

    def __init__(
        self,
        channels: int,
        state_size: int = 16,
        *,
        initialization: Initialization = "release",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner, rank = EXPANSION * channels, math.ceil(channels / CHANNELS_PER_RANK)
        self.in_proj = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.depthwise = DepthwiseGelu(inner)
        self.x_proj_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, rank + 2 * state_size, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.empty(NUM_DIRECTIONS * inner, state_size))
        self.Ds = nn.Parameter(torch.empty(NUM_DIRECTIONS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Conv2d(inner, channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        init_scan_as_release(self) if initialization == "release" else init_scan_as_mamba(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; free of copies around the scan when x is channels-last."""
        scan, gate = self.scan_arguments(x)
        if self.training:
            out = recomputed(self, self._norm_gate_project, ss2d_scan(*scan), gate)
        else:
            norm = self.out_norm
            out = self._project(ss2d_norm_gate(*scan, norm.weight, norm.bias, _tokens(gate), norm.eps), gate)
        dropped: Tensor = self.dropout(out)
        return dropped

    def scan_arguments(self, x: Tensor) -> tuple[ScanArguments, Tensor]:
        """(B, C, H, W) to the arguments of `ops.ss2d_scan` and the gate (B, D, H, W)."""
        height, width = x.shape[2:]
        x, gate = self.in_proj(x).chunk(2, dim=1)
        x = self.depthwise(x)
        proj = functional.conv2d(x, self.x_proj_weight.flatten(0, 1)[:, :, None, None])  # P = K(R + 2N)
        weights = (self.dt_projs_weight, self.dt_projs_bias, self.A_logs, self.Ds)
        return (_tokens(x), _tokens(proj), *weights, height, width), gate

    def _norm_gate_project(self, y_BLD: Tensor, gate: Tensor) -> Tensor:
        norm = self.out_norm
        return self._project(norm_gate(y_BLD, norm.weight, norm.bias, _tokens(gate), norm.eps), gate)

    def _project(self, y_BLD: Tensor, gate: Tensor) -> Tensor:
        """(B, L, D) to (B, C, H, W), the height and width of the gate."""
        y_BDHW = y_BLD.reshape(-1, *gate.shape[2:], y_BLD.shape[2]).permute(0, 3, 1, 2)
        out: Tensor = self.out_proj(y_BDHW)
        return out


def init_scan_as_release(ss2d: SS2D) -> None:
    """Start as the released code does: projections as a linear layer, steps standard normal, A = -1, skip 1."""
    _init_x_proj(ss2d)
    nn.init.normal_(ss2d.dt_projs_weight)
    nn.init.normal_(ss2d.dt_projs_bias)
    nn.init.zeros_(ss2d.A_logs)
    nn.init.ones_(ss2d.Ds)


def init_scan_as_mamba(ss2d: SS2D) -> None:
    """Start as Mamba does: A_n = -n, softplus(bias) log-uniform in STEP_RANGE, step weights uniform in ±R^-1/2."""
    _init_x_proj(ss2d)
    rank, num_states = ss2d.dt_projs_weight.shape[2], ss2d.A_logs.shape[1]
    nn.init.uniform_(ss2d.dt_projs_weight, -(rank**-0.5), rank**-0.5)
    with torch.no_grad():
        low, high = (math.log(step) for step in STEP_RANGE)
        step = torch.empty_like(ss2d.dt_projs_bias).uniform_(low, high).exp()
        ss2d.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        ss2d.A_logs.copy_(torch.arange(1, num_states + 1).log().expand_as(ss2d.A_logs))
    nn.init.ones_(ss2d.Ds)


def _init_x_proj(ss2d: SS2D) -> None:
    """Torch's default for a linear layer: uniform in ±D^-1/2."""
    bound = ss2d.x_proj_weight.shape[2] ** -0.5
    nn.init.uniform_(ss2d.x_proj_weight, -bound, bound)


def _tokens(x_BDHW: Tensor) -> Tensor:
    """(B, D, H, W) to (B, L, D), a view of a channels-last map."""
    return x_BDHW.permute(0, 2, 3, 1).flatten(1, 2)
