"""The selective scan: definition and Rust against float64 loops, gradients, shapes, threads, levels."""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mamba_yolo.errors import BackendError, ConfigError, ShapeError
from mamba_yolo.ops import selective_scan, ss2d_scan
from mamba_yolo.ops.dispatch import threads_are_torchs
from mamba_yolo.ops.scan_op import scan
from ops.scan_cases import gradients, map_inputs, relative_error, sequence_inputs
from reference import scan as oracle

backends = pytest.mark.parametrize("backend", ["reference", "rust"])


MAPS = [
    {},
    {"height": 1, "width": 1},
    {"height": 1, "width": 7},
    {"height": 13, "width": 17, "batch": 1},
    {"height": 8, "width": 3, "channels": 16},
    {"channels": 1},
    {"channels": 40, "batch": 3},
    {"channels": 64, "height": 16, "width": 4},
    {"channels": 1152, "height": 2, "width": 3, "batch": 1, "rank": 36},
    {"channels": 24, "height": 20, "width": 20, "batch": 1},
    {"states": 1, "rank": 1},
    {"states": 5},
    {"batch": 0},
    {"height": 0},
]


@backends
@pytest.mark.parametrize("shape", MAPS)
def test_map_equals_permute_scan_merge(backend, shape):
    inputs = map_inputs(**shape)
    expected = oracle.ss2d(*(t.numpy() if isinstance(t, torch.Tensor) else t for t in inputs))
    assert relative_error(ss2d_scan(*inputs, backend=backend), torch.from_numpy(expected)) < 1e-13


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_map_gradients_equal_the_definition(shape, dtype, limit):
    ours = gradients(ss2d_scan, map_inputs(**shape, dtype=dtype), "rust")
    exact = gradients(ss2d_scan, map_inputs(**shape), "reference")
    assert all(relative_error(a, b) < limit for a, b in zip(ours, exact, strict=True))


def test_float32_output_is_exact_to_1e_5_over_long_maps():
    inputs = map_inputs(batch=1, height=48, width=80, channels=16, rank=2, dtype=torch.float32)
    exact = [t.double() if isinstance(t, torch.Tensor) else t for t in inputs]
    assert relative_error(ss2d_scan(*inputs), ss2d_scan(*exact)) < 1e-6
    limits = [1e-6] + [1e-4] * 6
    for got, expected, limit in zip(
        gradients(ss2d_scan, inputs, "rust"), gradients(ss2d_scan, exact, "rust"), limits, strict=True
    ):
        assert relative_error(got, expected) < limit


@backends
@pytest.mark.parametrize("groups", [None, 1, 3])
@pytest.mark.parametrize("length", [1, 16, 37])
def test_sequence_equals_loops(backend, groups, length):
    u, delta, A, B, C, D, bias = sequence_inputs(length=length, groups=groups)
    y = selective_scan(u, delta, A, B, C, D, bias, True, backend=backend)
    B4, C4 = (m[:, None] if m.ndim == 3 else m for m in (B, C))
    size = u.shape[1] // B4.shape[1]
    for b in range(u.shape[0]):
        for g in range(B4.shape[1]):
            span = slice(g * size, (g + 1) * size)
            step = oracle.softplus((delta[b, span] + bias[span, None]).numpy())
            expected = oracle.scan(
                u[b, span].numpy(), step, A[span].numpy(), B4[b, g].numpy(), C4[b, g].numpy(), D[span].numpy()
            )
            assert relative_error(y[b, span], torch.from_numpy(expected)) < 1e-13


@pytest.mark.parametrize("options", [(), (True,)])
def test_sequence_gradients_equal_the_definition(options):
    inputs = sequence_inputs(groups=2)
    call = lambda *tensors, backend: selective_scan(*tensors, *options, backend=backend)  # noqa: E731
    pairs = zip(gradients(call, inputs, "rust"), gradients(call, inputs, "reference"), strict=True)
    assert all(relative_error(a, b) < 1e-12 for a, b in pairs)


@backends
def test_sequence_without_skip_and_bias(backend):
    u, delta, A, B, C, *_ = sequence_inputs(length=9)
    zeros = torch.zeros(u.shape[1], dtype=u.dtype)
    steps = delta.abs()
    full = selective_scan(u, steps, A, B, C, zeros, zeros, backend=backend)
    assert torch.equal(selective_scan(u, steps, A, B, C, backend=backend), full)


def test_gradcheck():
    inputs = map_inputs(batch=1, height=3, width=2, channels=3, rank=2, states=2)
    tensors = [t.requires_grad_() for t in inputs[:6]]
    assert torch.autograd.gradcheck(lambda *t: ss2d_scan(*t, 3, 2), tensors)
    sequence = [t.requires_grad_() for t in sequence_inputs(batch=1, channels=2, length=5, states=2)]
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t, True), sequence)


@pytest.mark.parametrize("v", [-30.0, -1.0, 0.0, 19.9, 20.1, 40.0])
@pytest.mark.parametrize("decay", [0.1, 1.0, 50.0])
def test_extreme_steps(v, decay):
    """Softplus at both ends, and delta * A far below what 2^x can hold."""
    inputs = map_inputs(dtype=torch.float32)
    inputs[2].zero_()
    inputs[3].fill_(v)
    inputs[4].fill_(float(np.log(decay)))
    exact = [t.double() if isinstance(t, torch.Tensor) else t for t in inputs]
    for got, expected in zip(
        gradients(ss2d_scan, inputs, "rust"), gradients(ss2d_scan, exact, "reference"), strict=True
    ):
        assert torch.isfinite(got).all()
        assert relative_error(got, expected) < 2e-5


def test_gradients_that_decay_below_the_normal_range():
    """They count as nothing inside the scan, and torch's arithmetic stays as it was."""
    inputs = map_inputs(dtype=torch.float32, height=16, width=16)
    inputs[3].fill_(1.0)
    exact = [t.double() if isinstance(t, torch.Tensor) else t for t in inputs]
    weight = torch.zeros(2, 256, 24)
    weight[:, 100] = 1e-15
    found = []
    for tensors, backend in ((inputs, "rust"), (exact, "reference")):
        leaves = [t.clone().requires_grad_() for t in tensors[:6]]
        y = ss2d_scan(*leaves, 16, 16, backend=backend)
        found.append(torch.autograd.grad(y, leaves, weight.to(y.dtype)))
    assert all(relative_error(a * 1e15, b * 1e15) < 2e-5 for a, b in zip(*found, strict=True))
    assert torch.tensor(1e-30) * torch.tensor(1e-10) > 0


def test_growing_states():
    """A > 0 is allowed in selective_scan."""
    u, delta, A, B, C, D, _ = sequence_inputs(length=20)
    inputs = [u, delta.abs() * 0.1, -A * 0.1, B, C, D]
    pairs = zip(gradients(selective_scan, inputs, "rust"), gradients(selective_scan, inputs, "reference"), strict=True)
    assert all(relative_error(a, b) < 1e-12 for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_keep_a_float32_state(dtype):
    inputs = map_inputs(dtype=torch.float32)
    inputs[0], inputs[1] = inputs[0].to(dtype), inputs[1].to(dtype)
    quantised = [t.float() if isinstance(t, torch.Tensor) else t for t in inputs]
    y = ss2d_scan(*inputs)
    assert y.dtype == dtype
    assert torch.equal(y, ss2d_scan(*quantised).to(dtype))
    assert [g.dtype for g in gradients(ss2d_scan, inputs, "rust")][1:3] == [dtype, dtype]


def test_autocast_leaves_the_scan_alone():
    inputs = map_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ss2d_scan(*inputs), ss2d_scan(*inputs))
        assert ss2d_scan(*inputs).dtype == torch.float32


def test_nan_is_not_swallowed():
    inputs = map_inputs(dtype=torch.float32)
    inputs[1][0, 3, 0] = torch.nan
    assert ss2d_scan(*inputs)[0].isnan().any()
    assert not ss2d_scan(*inputs)[1].isnan().any()


def test_non_contiguous_inputs():
    inputs = map_inputs()
    strided = [t.mT.contiguous().mT if isinstance(t, torch.Tensor) and t.ndim > 1 else t for t in inputs]
    assert not strided[0].is_contiguous()
    assert torch.equal(ss2d_scan(*strided), ss2d_scan(*inputs))
    expanded = [inputs[0][:1].expand(2, -1, -1), *inputs[1:]]
    assert torch.equal(ss2d_scan(*expanded)[0], ss2d_scan(*inputs)[0])


def test_gradients_of_non_contiguous_inputs():
    inputs = map_inputs(dtype=torch.float64)
    tensors = [t.requires_grad_() for t in inputs if isinstance(t, torch.Tensor)]
    strided = [t.detach().mT.contiguous().mT.requires_grad_() if t.ndim > 1 else t for t in tensors]
    dy = torch.linspace(-1, 1, tensors[0].numel(), dtype=torch.float64).view(tensors[0].shape)
    expected = torch.autograd.grad(ss2d_scan(*inputs), tensors, dy)
    got = torch.autograd.grad(ss2d_scan(*strided, *inputs[-2:]), strided, dy.mT.contiguous().mT)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    "shape",
    [
        {"batch": 3, "height": 9, "width": 11, "channels": 72},
        {"batch": 1, "height": 9, "width": 11, "channels": 20},  # more threads than channel groups
        {"batch": 1, "height": 8, "width": 40, "channels": 200},  # several bundles of groups
    ],
    ids=str,
)
def test_bits_do_not_depend_on_threads(shape):
    inputs = map_inputs(**shape, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 5, 1):
            torch.set_num_threads(threads)
            runs.append(gradients(ss2d_scan, inputs, "rust"))
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_python_threads_may_scan_at_once():
    inputs = map_inputs(dtype=torch.float32)
    expected = ss2d_scan(*inputs)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: ss2d_scan(*inputs), range(16)))
    assert all(torch.equal(r, expected) for r in results)


def _scan_in_child(queue, inputs):
    torch.set_num_threads(3)  # torch's own OpenMP team does not survive a fork, so nothing but the scan is called
    y = scan(*inputs, (5, 7), True)
    queue.put((y.numpy().tobytes(), threads_are_torchs()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_scans_too_on_threads_of_its_own():
    x, proj, dt_weight, dt_bias, A_logs, Ds, _, _ = map_inputs(height=5, width=7, channels=72, dtype=torch.float32)
    inputs = (x, None, proj, dt_weight, dt_bias, -A_logs.exp(), Ds)
    expected = scan(*inputs, (5, 7), True)  # the parent's threads exist now
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_scan_in_child, args=(queue, inputs), daemon=True)
    child.start()
    assert queue.get(timeout=60) == (expected.numpy().tobytes(), False)
    child.join(timeout=60)


@pytest.mark.parametrize("steeper", [0, 9])  # with 9 states vanish within a step, in the short last tile too
@pytest.mark.parametrize("level", ["scalar", "portable", "avx2", "avx512", "neon"])
def test_every_cpu_level_agrees(level, steeper):
    script = (
        "import json, torch\n"
        "from mamba_yolo._rust import cpu_level\n"
        "from mamba_yolo.ops import ss2d_scan\n"
        "n = lambda *s: torch.linspace(-2, 2, int(torch.tensor(s).prod())).reshape(s).sin()\n"
        f"x = [n(1, 35, 24), n(1, 35, 4 * 35), n(4, 24, 3), n(4, 24), n(96, 16) + {steeper}, n(96)]\n"
        "x = [t.requires_grad_() for t in x]\n"
        "y = ss2d_scan(*x, 5, 7)\n"
        "y.sum().backward()\n"
        "print(json.dumps([cpu_level(), y.flatten().tolist(), x[1].grad.flatten().tolist()]))\n"
    )
    env = {**os.environ, "MAMBA_YOLO_CPU": level}
    run = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    if f"MAMBA_YOLO_CPU={level} is not available" in run.stderr:
        pytest.skip(f"this machine has no {level}")
    name, y, d_proj = json.loads(run.stdout)
    assert name == level
    make = lambda *s: torch.linspace(-2, 2, int(torch.tensor(s).prod())).reshape(s).sin()  # noqa: E731
    inputs = [make(1, 35, 24), make(1, 35, 140), make(4, 24, 3), make(4, 24), make(96, 16) + steeper, make(96)]
    leaves = [t.double().requires_grad_() for t in inputs]
    exact = ss2d_scan(*leaves, 5, 7, backend="reference")
    exact.sum().backward()
    assert relative_error(torch.tensor(y), exact.detach().flatten()) < 1e-6
    assert relative_error(torch.tensor(d_proj), leaves[1].grad.flatten()) < 1e-5


@backends
@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda t: t[0], r"x must be a floating \(B, L, D\) tensor"),
        (0, lambda t: t.long(), "x must be a floating"),
        (1, lambda t: t[..., 1:], r"proj must have shape \(2, 35, 140\), got \(2, 35, 139\)"),
        (2, lambda t: t[:3], r"dt_weight must have shape \(4, 24, 3\)"),
        (3, lambda t: t[:, 1:], "dt_bias must have shape"),
        (4, lambda t: t[1:], "A_logs must have shape"),
        (4, lambda t: t[0], "A_logs"),
        (5, lambda t: t[1:], "Ds must have shape"),
        (6, lambda h: h + 1, r"height \* width must be L = 35, got 6 \* 7"),
        (0, lambda t: t.to("meta"), "proj is on cpu, the first input on meta"),
    ],
)
def test_shapes_are_checked(backend, position, change, message):
    inputs = map_inputs()
    inputs[position] = change(inputs[position])
    with pytest.raises(ShapeError, match=message):
        ss2d_scan(*inputs, backend=backend)


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda t: t[0], "u must be a floating"),
        (1, lambda t: t[:, 1:], "delta must have shape"),
        (2, lambda t: t[0], "A must have shape"),
        (3, lambda t: t[:, None].expand(-1, 5, -1, -1), "C must have shape|divisible"),
        (4, lambda t: t[..., 1:], "C must have shape"),
        (5, lambda t: t[1:], "D must have shape"),
        (6, lambda t: t[1:], "delta_bias must have shape"),
    ],
)
def test_sequence_shapes_are_checked(position, change, message):
    inputs = sequence_inputs()
    inputs[position] = change(inputs[position])
    with pytest.raises(ShapeError, match=message):
        selective_scan(*inputs)


def test_unknown_and_impossible_backends():
    with pytest.raises(ConfigError, match="backend must be one of auto, reference, rust, cuda, got 'triton'"):
        ss2d_scan(*map_inputs(), backend="triton")
    with pytest.raises(BackendError, match="torch sees none here"):
        ss2d_scan(*map_inputs(), backend="cuda")


def test_the_environment_chooses_the_backend(monkeypatch):
    inputs = map_inputs(dtype=torch.float32)
    expected = ss2d_scan(*inputs, backend="reference")
    monkeypatch.setenv("MAMBA_YOLO_BACKEND", "reference")
    assert torch.equal(ss2d_scan(*inputs), expected)
    monkeypatch.setenv("MAMBA_YOLO_BACKEND", "none")
    with pytest.raises(ConfigError, match="got 'none'"):
        ss2d_scan(*inputs)
