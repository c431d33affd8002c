"""Every access of every kernel: races, bounds, uninitialised memory; and that such faults, planted, are found."""

import ctypes
import os

import numpy as np
import pytest
import torch

from kernels.cases import Case, add, backward, ceil_div, forward, structure
from kernels.twin.machine import KernelError, Machine

SMALL = [
    {"height": 3, "width": 23, "channels": 5, "rank": 2, "batch": 1},
    {"height": 1, "width": 35, "channels": 66, "rank": 3, "batch": 1, "states": 18},
    {"length": 37, "channels": 3, "batch": 2},
]


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("segment_tokens", [None, 32])
@pytest.mark.parametrize("suffix", ["f32", "bf16"])
def test_every_access_is_allowed(shape, segment_tokens, suffix):
    case = Case(suffix, segment_tokens, **shape)
    y, states = forward(case, "check")
    plain = forward(case)
    assert torch.allclose(y.float(), plain[0].float(), rtol=1e-2 if suffix == "bf16" else 1e-5, atol=1e-4)
    backward(case, states, "check")
