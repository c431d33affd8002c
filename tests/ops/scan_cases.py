"""Random scans, their gradients, and how far a result is off; for the tests of the scan."""

import numpy as np
import torch


def relative_error(got, expected):
    """Largest difference over the largest expected value; what is below 1e-12 counts as nothing."""
    got, expected = (torch.as_tensor(np.asarray(t.detach())).double() for t in (got, expected))
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12)) if got.numel() else 0.0


def map_inputs(batch=2, height=5, width=7, channels=24, rank=3, states=16, dtype=torch.float64, seed=0):
    """Random arguments of ss2d_scan, row-major."""
    rng = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)  # noqa: E731
    length = height * width
    return [
        make(batch, length, channels),
        make(batch, length, 4 * (rank + 2 * states)),
        make(4, channels, rank),
        make(4, channels),
        make(4 * channels, states) * 0.5,
        make(4 * channels),
        height,
        width,
    ]


def sequence_inputs(batch=2, channels=12, length=37, states=8, groups=None, dtype=torch.float64, seed=0):
    """Random arguments of selective_scan."""
    rng = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)  # noqa: E731
    bc = (batch, states, length) if groups is None else (batch, groups, states, length)
    return [
        make(batch, channels, length),
        make(batch, channels, length),
        -make(channels, states).exp(),
        make(*bc),
        make(*bc),
        make(channels),
        make(channels),
    ]


def gradients(call, inputs, backend):
    """Output and gradients of a call with respect to its tensors, for a fixed weighting of the output."""
    tensors = [t.detach().clone().requires_grad_() if isinstance(t, torch.Tensor) else t for t in inputs]
    y = call(*tensors, backend=backend)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape).cos()
    return [
        y,
        *torch.autograd.grad(y, [t for t in tensors if isinstance(t, torch.Tensor)], weight, materialize_grads=True),
    ]
