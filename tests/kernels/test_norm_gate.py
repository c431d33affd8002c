"""The epilogue of cuda/, run on the CPU twin: merge, layer norm, gate, against float64."""

import ctypes

import pytest
import torch

from kernels.cases import DTYPES, ceil_div, raw, structure
from kernels.twin.machine import Machine
from mamba_yolo.ops.fused_ref import norm_gate_ref
from ops.scan_cases import relative_error

LIMITS = {"f32": 3e-6, "f16": 6e-4, "bf16": 5e-3}


def norm_gate(suffix, tokens, channels, build="plain", **how):
    """What the kernel gives, and the definition in float64; the gate is half of a wider tensor."""
    rng = torch.Generator().manual_seed(channels)
    make = lambda *shape: torch.randn(*shape, generator=rng)  # noqa: E731
    parts, weight, bias = make(3, tokens, channels), make(channels), make(channels)
    both = make(tokens, 2 * channels).to(DTYPES[suffix])
    with Machine("norm_gate.cu", build) as machine:
        tensors = {"parts": parts, "weight": weight, "bias": bias, "gate": both}
        pointers = [machine.put(name, raw(t)) for name, t in tensors.items()]
        pointers[3] += channels * both.element_size()
        address, view = machine.room("out", (tokens, channels), ctypes.c_float if suffix == "f32" else ctypes.c_int16)
        arguments = structure("NormGate")(*pointers, address, tokens, 2 * channels, channels, 3, 0, 1e-5)
        machine.launch(f"norm_gate_{suffix}", arguments, ceil_div(tokens, 4), 128, 0, **how)
        ours = torch.from_numpy(view.copy()).view(DTYPES[suffix])
    merged = parts.double().sum(0)
    gate = both[:, channels:].double()
    return ours, norm_gate_ref(merged[None], weight.double(), bias.double(), gate[None], 1e-5)[0]


@pytest.mark.parametrize("suffix", LIMITS)
@pytest.mark.parametrize(("tokens", "channels"), [(1, 2), (3, 31), (4, 40), (9, 129)])
def test_equals_the_definition_in_any_order(suffix, tokens, channels):
    ours, exact = norm_gate(suffix, tokens, channels)
    assert relative_error(ours.double(), exact) < LIMITS[suffix]
    for how in ({"order": 1}, {"order": 5}, {"build": "check"}):
        assert torch.allclose(norm_gate(suffix, tokens, channels, **how)[0].float(), ours.float(), rtol=1e-5, atol=1e-6)


def test_survives_another_rounding():
    for how in ({"jitter": 1}, {"build": "ubsan"}):
        ours, exact = norm_gate("f32", 9, 129, **how)
        assert relative_error(ours.double(), exact) < 1e-5
