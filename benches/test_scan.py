"""The selective scan of mamba-yolo-t at 640 px, beside the torch definition and the chunked cumulative-sum form.

Run: `pytest benches/test_scan.py --benchmark-only -s`. Results are asserted before anything is timed.
"""

import pytest
import torch

from mamba_yolo.ops import ss2d_scan
from mamba_yolo.ops.scan_ref import scan_orders

# Height, channels, rank, and how many such blocks the network has.
LEVELS = {"P2": (160, 64, 2, 1), "P3": (80, 128, 4, 2), "P4": (40, 256, 8, 5), "P5": (20, 512, 16, 2)}
STATES = 16
CHUNK = 16  # the fastest for the peer on a CPU


def inputs(side, channels, rank, requires_grad=False):
    rng = torch.Generator().manual_seed(0)
    shapes = [
        (1, side * side, channels),
        (1, side * side, 4 * (rank + 2 * STATES)),
        (4, channels, rank),
        (4, channels),
        (4 * channels, STATES),
        (4 * channels,),
    ]
    tensors = [torch.randn(shape, generator=rng) * 0.5 for shape in shapes]
    return [*(t.requires_grad_(requires_grad) for t in tensors), side, side]


def chunked(x, proj, dt_weight, dt_bias, A_logs, Ds, height, width):
    """Cumulative sums within chunks, divided by the decay: the best known torch form on a CPU, less exact."""
    directions, channels, rank = dt_weight.shape
    out = torch.zeros_like(x)
    rows = proj.reshape(*proj.shape[:2], directions, rank + 2 * STATES)
    for k, order in enumerate(scan_orders(height, width)):
        u, row = x[:, order], rows[:, order, k]
        dt, B, C = torch.split(row, [rank, STATES, STATES], dim=2)
        step = torch.nn.functional.softplus(dt @ dt_weight[k].T + dt_bias[k])
        span = slice(k * channels, (k + 1) * channels)
        A = -A_logs[span].exp()
        h = x.new_zeros(x.shape[0], channels, STATES)
        ys = []
        for t in range(0, u.shape[1], CHUNK):
            piece = slice(t, t + CHUNK)
            total = (step[:, piece, :, None] * A).cumsum(1)
            decay = total.exp()
            driven = ((step[:, piece] * u[:, piece])[..., None] * B[:, piece, None] / decay.clamp(min=1e-30)).cumsum(1)
            states = decay * (driven + h[:, None])
            ys.append((states @ C[:, piece, :, None]).squeeze(-1))
            h = states[:, -1]
        out = out.index_add(1, order, torch.cat(ys, dim=1) + Ds[span] * u)
    return out


@pytest.mark.parametrize("level", LEVELS)
def test_forward(beside, level):
    side, channels, rank, _ = LEVELS[level]
    args = inputs(side, channels, rank)
    with torch.inference_mode():
        expected = ss2d_scan(*(t.double() if isinstance(t, torch.Tensor) else t for t in args))
        torch.testing.assert_close(ss2d_scan(*args).double(), expected, rtol=1e-4, atol=1e-4)
        updates = side * side * channels * STATES * 4
        beside(
            f"forward {level} ({updates / 1e6:.0f} M updates)",
            lambda: ss2d_scan(*args),
            {"chunked torch": lambda: chunked(*args)},
            rounds=3,
        )


@pytest.mark.parametrize("level", ["P4", "P5"])
def test_forward_and_backward(beside, level):
    side, channels, rank, _ = LEVELS[level]
    args = inputs(side, channels, rank, requires_grad=True)

    def step(call):
        call(*args).square().sum().backward()

    beside(
        f"forward and backward {level}",
        lambda: step(ss2d_scan),
        {"chunked torch": lambda: step(chunked)},
        rounds=3,
    )
