"""What calling the scan costs before it does anything: a map of one token, beside an operator that does nothing.

`scan` is the operation, `ss2d_scan` the public function around it with its checks, conversions and A = -exp(A_logs).

Run: `pytest benches/test_overhead.py --benchmark-only -s`.
"""

from __future__ import annotations

import functools

import pytest
import torch

from mamba_yolo.ops import ss2d_scan
from mamba_yolo.ops.scan_op import scan
from scan_forms import Block, inputs
from timing import medians, seconds

CALLS = 500


@torch.library.custom_op("mamba_yolo_benches::nothing", mutates_args=())
def nothing(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


nothing.register_autograd(lambda ctx, gradient: gradient)


def many(call):
    """Microseconds of one of many calls."""

    def run():
        for _ in range(CALLS):
            call()

    return lambda: seconds(run) / CALLS * 1e6


@pytest.mark.parametrize("gradients", [False, True])
def test_eager(benchmark, figure, gradients):
    args = inputs(Block(side=1, channels=16, rank=1), requires_grad=gradients)
    assert torch.allclose(ss2d_scan(*args), ss2d_scan(*args, backend="reference"), rtol=1e-4, atol=1e-5)
    x, proj, dt_weight, dt_bias, A_logs, Ds, height, width = args
    A = (-A_logs.exp()).detach().requires_grad_(gradients)
    calls = {
        "scan": functools.partial(scan, x, None, proj, dt_weight, dt_bias, A, Ds, (height, width), True),
        "ss2d_scan": functools.partial(ss2d_scan, *args),
        "operator that does nothing": functools.partial(nothing, x),
    }
    found = medians({name: many(call) for name, call in calls.items()}, rounds=15)
    peer = {"operator that does nothing": found.pop("operator that does nothing")}
    for name, microseconds in found.items():
        figure(f"{name} of one token, {'with' if gradients else 'without'} gradients", microseconds, peer, unit="us")
    benchmark.pedantic(calls["scan"], rounds=5, iterations=100)
