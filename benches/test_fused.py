"""The scan's neighbours at the four levels of mamba-yolo-t at 640 px, beside torch's own operators on the same maps.

Run: `pytest benches/test_fused.py --benchmark-only -s`. Results are asserted before anything is timed.
"""

import pytest
import torch
from torch.nn import functional

from mamba_yolo.ops import depthwise_gelu, norm_gate

LEVELS = {"P2": (160, 64), "P3": (80, 128), "P4": (40, 256), "P5": (20, 512)}  # side, channels
ROUNDS = 25
levels = pytest.mark.parametrize("level", LEVELS)


def halves(side, channels):
    """Two slices of a channels-last map, as a projection leaves them, and parameters."""
    rng = torch.Generator().manual_seed(0)
    wide = torch.randn(1, 2 * channels, side, side, generator=rng).contiguous(memory_format=torch.channels_last)
    parameters = [torch.randn(channels, 1, 3, 3, generator=rng), torch.randn(channels, generator=rng)]
    return wide.requires_grad_(), [p.requires_grad_() for p in parameters]


def torch_depthwise(x, weight, bias, gate=None, *, residual=False):
    y = functional.conv2d(x, weight, bias, padding=1, groups=x.shape[1])
    y = functional.gelu(y + x if residual else y)
    return y if gate is None else y * gate


def torch_norm(x, weight, bias, gate):
    return functional.layer_norm(x, weight.shape, weight, bias) * functional.gelu(gate)


def tokens(x_BDHW):
    return x_BDHW.permute(0, 2, 3, 1).flatten(1, 2)


def compare(beside, what, ours, peer, leaves):
    """Forward without gradients, then backward alone, each after its results were found equal."""
    torch.testing.assert_close(ours(), peer(), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        beside(f"{what} forward", ours, {"torch": peer}, rounds=ROUNDS)


def compare_backward(beside, what, ours, peer, leaves):
    ours, peer = ours(), peer()
    dy = torch.linspace(-1, 1, ours.numel()).view(ours.shape)
    dy = dy.contiguous(memory_format=torch.channels_last) if dy.ndim == 4 else dy
    backward = lambda y: torch.autograd.grad(y, leaves, dy, retain_graph=True)  # noqa: E731
    for got, expected in zip(backward(ours), backward(peer), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    beside(f"{what} backward", lambda: backward(ours), {"torch": lambda: backward(peer)}, rounds=ROUNDS)


run = pytest.mark.parametrize("run", [compare, compare_backward], ids=["forward", "backward"])


@run
@levels
def test_depthwise_gelu(beside, level, run):
    side, channels = LEVELS[level]
    wide, parameters = halves(side, channels)
    x = wide.chunk(2, dim=1)[0]
    run(
        beside,
        f"depthwise gelu {level}",
        lambda: depthwise_gelu(x, *parameters),
        lambda: torch_depthwise(x, *parameters),
        [x, *parameters],
    )


@run
@levels
def test_residual_gated_depthwise_gelu(beside, level, run):
    side, channels = LEVELS[level]
    wide, parameters = halves(side, channels)
    x, gate = wide.chunk(2, dim=1)
    run(
        beside,
        f"residual gated depthwise gelu {level}",
        lambda: depthwise_gelu(x, *parameters, gate, residual=True),
        lambda: torch_depthwise(x, *parameters, gate, residual=True),
        [x, gate, *parameters],
    )


@run
@levels
def test_norm_gate(beside, level, run):
    side, channels = LEVELS[level]
    wide, (_, bias) = halves(side, channels)
    x = tokens(wide[:, :channels].contiguous(memory_format=torch.channels_last)).detach().requires_grad_()
    gate, weight = tokens(wide[:, channels:]), (bias.detach() + 1).requires_grad_()
    run(
        beside,
        f"norm gate {level}",
        lambda: norm_gate(x, weight, bias, gate),
        lambda: torch_norm(x, weight, bias, gate),
        [x, gate, weight, bias],
    )
