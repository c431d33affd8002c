"""What calling the scan costs before it does anything: a map of one token, beside an operator that does nothing.

Run: `pytest benches/test_overhead.py --benchmark-only -s`.
"""

from __future__ import annotations

import functools

import pytest
import torch

from mamba_yolo.ops import ss2d_scan
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
    ours, peer = functools.partial(ss2d_scan, *args), functools.partial(nothing, args[0])
    found = medians({"ours": many(ours), "operator that does nothing": many(peer)}, rounds=15)
    figure(f"scan of one token, {'with' if gradients else 'without'} gradients", found.pop("ours"), found, unit="us")
    benchmark.pedantic(ours, rounds=5, iterations=100)
