"""The operators on CUDA kernels, from ss2d_scan to the launches, with tensors of the CPU and the kernels' twin.

Runs in a process of its own, as with_fake_driver.py.
"""

import os
from types import SimpleNamespace

import pytest
import torch

from helpers import ROOT
from kernels.twin.machine import library
from mamba_yolo.errors import ShapeError
from mamba_yolo.ops import (
    _cuda,
    cuda_arguments,
    scan,
    scan_cuda,
    scan_gate,
    scan_op,
    selective_scan,
    ss2d_norm_gate,
    ss2d_scan,
)
from ops.scan_cases import gradients, map_inputs, relative_error, sequence_inputs

# Autograd asks torch for its GPUs once, and torch finds the fake driver too old.
pytestmark = pytest.mark.filterwarnings("ignore:CUDA initialization:UserWarning")
SIZES = {
    "scan_summary": cuda_arguments.SCAN_FORWARD,
    "scan_forward": cuda_arguments.SCAN_FORWARD,
    "scan_sweep": cuda_arguments.SCAN_FORWARD,
    "scan_adjoint": cuda_arguments.SCAN_BACKWARD,
    "scan_backward": cuda_arguments.SCAN_BACKWARD,
    "scan_sum": cuda_arguments.SCAN_SUM,
    "norm_gate": cuda_arguments.NORM_GATE,
}
LIMITS = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
PROCESSORS = 132


@pytest.fixture(scope="session")
def twins():
    return [library(file.name)._name for file in sorted((ROOT / "cuda").glob("*.cu"))]


@pytest.fixture(autouse=True)
def machine(monkeypatch, twins):
    """Operators that take CPU tensors for tensors on a GPU of sm_90, whose parts may be changed."""
    found = SimpleNamespace(multi_processor_count=PROCESSORS)
    monkeypatch.setenv("FAKE_KERNELS", os.pathsep.join(twins))
    monkeypatch.setenv("FAKE_SIZES", ";".join(f"{name}={layout.size}" for name, layout in SIZES.items()))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(_cuda, "current_stream", lambda index: 0)
    monkeypatch.setattr(scan, "choose_backend", lambda backend, *_: "cuda" if backend == "auto" else backend)
    monkeypatch.setattr(scan_op, "_kernels", lambda x: scan_cuda)
    gpu = _cuda.Gpu(0)
    monkeypatch.setattr(_cuda, "gpu", lambda index: gpu)
    return gpu


def outcome(call, inputs, backend="auto"):
    with torch.no_grad():
        return call(*inputs, backend=backend)


def exact(inputs):
    return [t.double() if isinstance(t, torch.Tensor) else t for t in inputs]


MAPS = [
    {},
    {"height": 1, "width": 1},
    {"height": 13, "width": 17, "batch": 1},
    {"channels": 1, "rank": 1, "states": 1},
    {"channels": 131, "batch": 3, "height": 3},
    {"states": 20},
    {"channels": 40, "rank": 36},
    {"channels": 64, "rank": 3, "height": 4, "width": 10},
]


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_a_map(shape):
    inputs = map_inputs(**shape, dtype=torch.float32)
    expected = outcome(ss2d_scan, exact(inputs), "reference")
    assert relative_error(outcome(ss2d_scan, inputs), expected) < LIMITS[torch.float32]


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_gradients_of_a_map(shape):
    inputs = map_inputs(**shape, dtype=torch.float32)
    pairs = zip(gradients(ss2d_scan, inputs, "auto"), gradients(ss2d_scan, exact(inputs), "reference"), strict=True)
    assert all(relative_error(got, expected) < 1e-4 for got, expected in pairs)


@pytest.mark.parametrize("groups", [None, 3])
def test_a_sequence_and_its_gradients(groups):
    inputs = sequence_inputs(groups=groups, dtype=torch.float32)
    call = lambda *tensors, backend: selective_scan(*tensors, True, backend=backend)  # noqa: E731
    pairs = zip(gradients(call, inputs, "auto"), gradients(call, exact(inputs), "reference"), strict=True)
    assert all(relative_error(got, expected) < 1e-4 for got, expected in pairs)


@pytest.mark.parametrize("processors", [1, 8, 10_000])
def test_segments(machine, processors):
    machine.num_processors = processors
    inputs = map_inputs(height=21, width=20, batch=1, dtype=torch.float32)
    pairs = zip(gradients(ss2d_scan, inputs, "auto"), gradients(ss2d_scan, exact(inputs), "reference"), strict=True)
    assert all(relative_error(got, expected) < 1e-4 for got, expected in pairs)


@pytest.mark.parametrize(("processors", "kernel"), [(1, "scan_sweep32_f32"), (16, "scan_sweep4_f32")])
def test_a_sweep_takes_what_fills_the_gpu(machine, processors, kernel):
    machine.num_processors = processors
    launched = []
    launch = machine.launch
    machine.launch = lambda kernel, *rest: (launched.append(kernel), launch(kernel, *rest))
    inputs = map_inputs(height=4, width=8, channels=128, rank=2, batch=3, dtype=torch.float32)
    pairs = zip(gradients(ss2d_scan, inputs, "auto"), gradients(ss2d_scan, exact(inputs), "reference"), strict=True)
    assert all(relative_error(got, expected) < 1e-4 for got, expected in pairs)
    assert launched[0] == kernel


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_input(dtype):
    inputs = map_inputs(dtype=torch.float32)
    inputs[0], inputs[1] = inputs[0].to(dtype), inputs[1].to(dtype)
    ours = gradients(ss2d_scan, inputs, "auto")
    assert [t.dtype for t in ours] == [dtype, dtype, dtype, *[torch.float32] * 4]
    for got, expected in zip(ours, gradients(ss2d_scan, exact(inputs), "reference"), strict=True):
        assert relative_error(got.float(), expected) < LIMITS[dtype]


def test_mixed_precision_is_float32():
    inputs = map_inputs(dtype=torch.float32)
    inputs[0] = inputs[0].bfloat16()
    quantised = [t.float() if isinstance(t, torch.Tensor) else t for t in inputs]
    assert torch.equal(outcome(ss2d_scan, inputs), outcome(ss2d_scan, quantised).bfloat16())


def test_empty_batches_and_maps():
    for shape in ({"batch": 0}, {"height": 0}):
        y, *rest = gradients(ss2d_scan, map_inputs(**shape, dtype=torch.float32), "auto")
        assert y.shape[:2] in ((0, 35), (2, 0))
        assert not any(g.any() for g in rest)


def test_strided_and_misaligned_inputs():
    inputs = map_inputs(channels=5, dtype=torch.float32)
    expected = outcome(ss2d_scan, inputs)
    shifted = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view_as(t) for t in inputs[:6]]
    assert torch.equal(outcome(ss2d_scan, [*shifted, *inputs[6:]]), expected)
    strided = [t.mT.contiguous().mT if t.ndim > 1 else t for t in inputs[:6]]
    assert torch.equal(outcome(ss2d_scan, [*strided, *inputs[6:]]), expected)


def test_the_operator_and_the_plain_call_agree():
    x, proj, dt_weight, dt_bias, A_logs, Ds, *grid = map_inputs(dtype=torch.float32)
    tensors = (x, None, proj, dt_weight, dt_bias, -A_logs.exp(), Ds)
    y, checkpoints = torch.ops.mamba_yolo.scan_forward(*tensors, *grid, True, True)
    assert torch.equal(y, scan_op.scan(*tensors, tuple(grid), True))
    assert (checkpoints.shape, checkpoints.dtype) == ((2, 4, 3, 16, 24), torch.float32)


def test_dtypes_are_checked():
    x, proj, dt_weight, dt_bias, A_logs, Ds, *grid = map_inputs(dtype=torch.float32)
    tensors = [x, None, proj, dt_weight, dt_bias, -A_logs.exp(), Ds]
    with pytest.raises(ShapeError, match="must share float32, float16 or bfloat16, got"):
        scan_cuda.run_forward([x.half(), *tensors[1:]], grid, True, False)
    with pytest.raises(ShapeError, match="parameters of a scan on a GPU must be float32"):
        scan_cuda.run_forward([*tensors[:5], A_logs.half(), Ds], grid, True, False)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("channels", [24, 131])
def test_norm_and_gate_in_one_pass(monkeypatch, dtype, channels):
    monkeypatch.setattr(scan_gate, "_in_one_pass", lambda backend, tensors: backend == "auto")
    monkeypatch.setattr(torch.ops.mamba_yolo, "scan_norm_gate", scan_gate._scan_norm_gate._init_fn)
    inputs = map_inputs(channels=channels, dtype=torch.float32)
    inputs[0], inputs[1] = inputs[0].to(dtype), inputs[1].to(dtype)
    rng = torch.Generator().manual_seed(7)
    weight, bias = (torch.randn(channels, generator=rng) for _ in range(2))
    halves = torch.randn(2, 35, 2 * channels, generator=rng).to(dtype)
    gate = halves[..., channels:]  # rows twice as far apart as they are long
    expected = ss2d_norm_gate(*exact([*inputs, weight, bias, gate]), backend="reference")
    got = ss2d_norm_gate(*inputs, weight, bias, gate)
    assert got.dtype == dtype
    assert relative_error(got.float(), expected) < LIMITS[dtype]
    assert torch.equal(got, ss2d_norm_gate(*inputs, weight, bias, gate.contiguous()))
    assert torch.equal(got, ss2d_norm_gate(*inputs, weight, bias, gate.mT.contiguous().mT))
