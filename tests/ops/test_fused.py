"""The scan's neighbours: definition and Rust against float64 loops, gradients, shapes, layouts, threads, levels."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch

from mamba_yolo.errors import ShapeError
from mamba_yolo.ops import depthwise_gelu, norm_gate
from ops.scan_cases import relative_error

backends = pytest.mark.parametrize("backend", ["reference", "rust"])
forms = pytest.mark.parametrize(("gated", "residual"), [(False, False), (False, True), (True, False), (True, True)])
SHAPES = [(2, 24, 5, 7), (1, 1, 1, 1), (1, 16, 1, 5), (1, 5, 6, 1), (1, 85, 9, 4), (0, 8, 3, 3), (1, 40, 30, 61)]
TOKENS = [(2, 35, 24), (1, 1, 3), (1, 7, 85), (0, 5, 8), (2, 0, 8), (1, 1200, 40), (2, 3, 16)]


def make(*shape, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def depthwise_inputs(batch, channels, height, width, dtype=torch.float64):
    """One channels-last map, whose halves are x and gate, weight and bias."""
    wide = make(batch, height, width, 2 * channels, dtype=dtype).permute(0, 3, 1, 2)
    return [wide, make(channels, 1, 3, 3, dtype=dtype, seed=1), make(channels, dtype=dtype, seed=2)]


def norm_inputs(batch, length, channels, dtype=torch.float64):
    """Tokens twice as wide as needed, whose halves are x and gate, weight and bias."""
    wide = make(batch, length, 2 * channels, dtype=dtype)
    return [wide, make(channels, dtype=dtype, seed=1), make(channels, dtype=dtype, seed=2)]


def depthwise(wide, weight, bias, *, gated=True, residual=True, backend="auto"):
    x, gate = wide.chunk(2, dim=1)
    return depthwise_gelu(x, weight, bias, gate if gated else None, residual=residual, backend=backend)


def norm(wide, weight, bias, *, backend="auto"):
    x, gate = wide.chunk(2, dim=2)
    return norm_gate(x, weight, bias, gate, backend=backend)


def gradients(call, inputs, **options):
    """Output and gradients of all inputs, for a fixed weighting of the output."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = call(*leaves, **options)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape).cos()
    return [y.detach(), *torch.autograd.grad(y, leaves, weight)]


def gelu(v):
    return v * 0.5 * math.erfc(-v / math.sqrt(2))


@backends
@forms
def test_depthwise_equals_loops(backend, gated, residual):
    inputs = depthwise_inputs(2, 3, 4, 5)
    y = depthwise(*inputs, gated=gated, residual=residual, backend=backend)
    x, gate = inputs[0].chunk(2, dim=1)
    for b, d, h, w in torch.cartesian_prod(*(torch.arange(n) for n in y.shape)).tolist():
        v = float(inputs[2][d]) + (float(x[b, d, h, w]) if residual else 0)
        for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(3)).tolist():
            row, column = h + i - 1, w + j - 1
            if 0 <= row < y.shape[2] and 0 <= column < y.shape[3]:
                v += float(inputs[1][d, 0, i, j] * x[b, d, row, column])
        expected = gelu(v) * (float(gate[b, d, h, w]) if gated else 1)
        assert float(y[b, d, h, w]) == pytest.approx(expected, abs=1e-13)


@backends
def test_norm_equals_loops(backend):
    inputs = norm_inputs(2, 3, 21)
    y = norm(*inputs, backend=backend)
    x, gate = inputs[0].chunk(2, dim=2)
    for b, t in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        row = x[b, t].tolist()
        mean = sum(row) / len(row)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + 1e-5)
        for d, v in enumerate(row):
            expected = ((v - mean) * scale * float(inputs[1][d]) + float(inputs[2][d])) * gelu(float(gate[b, t, d]))
            assert float(y[b, t, d]) == pytest.approx(expected, abs=1e-13)


@forms
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_depthwise_gradients_equal_the_definition(shape, dtype, limit, gated, residual):
    form = {"gated": gated, "residual": residual}
    ours = gradients(depthwise, depthwise_inputs(*shape, dtype=dtype), backend="rust", **form)
    exact = gradients(depthwise, depthwise_inputs(*shape), backend="reference", **form)
    assert all(relative_error(a, b) < limit for a, b in zip(ours, exact, strict=True))


@pytest.mark.parametrize("shape", TOKENS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_norm_gradients_equal_the_definition(shape, dtype, limit):
    ours = gradients(norm, norm_inputs(*shape, dtype=dtype), backend="rust")
    exact = gradients(norm, norm_inputs(*shape), backend="reference")
    assert all(relative_error(a, b) < limit for a, b in zip(ours, exact, strict=True))


@backends
def test_gradcheck(backend):
    leaves = [t.requires_grad_() for t in depthwise_inputs(1, 3, 3, 2)]
    assert torch.autograd.gradcheck(lambda *t: depthwise(*t, backend=backend), leaves)
    leaves = [t.requires_grad_() for t in norm_inputs(1, 2, 3)]
    assert torch.autograd.gradcheck(lambda *t: norm(*t, backend=backend), leaves)


def test_gelu_is_exact_far_out():
    v = torch.linspace(-12, 12, 4801)
    x, identity = v.view(1, 1, 1, -1), torch.zeros(1, 1, 3, 3)
    y = depthwise_gelu(x, identity, torch.zeros(1), residual=True).flatten()
    assert float((y.double() - torch.nn.functional.gelu(v.double())).abs().max()) < 1e-6
    assert depthwise_gelu(x * torch.nan, identity, torch.zeros(1)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("call", "inputs"), [(depthwise, depthwise_inputs), (norm, norm_inputs)])
def test_half_inputs_are_computed_in_float32(dtype, call, inputs):
    shape = (1, 8, 5, 6) if call is depthwise else (1, 9, 24)
    wide, *parameters = inputs(*shape, dtype=torch.float32)
    wide = wide.to(dtype)
    y = call(wide, *parameters)
    assert y.dtype == dtype
    assert torch.equal(y, call(wide.float(), *parameters).to(dtype))


@pytest.mark.parametrize("layout", ["contiguous", "expanded", "transposed"])
def test_any_memory_layout(layout):
    change = {
        "contiguous": lambda t: t.contiguous(),
        "expanded": lambda t: t[:, :1].expand(t.shape),
        "transposed": lambda t: t.mT.contiguous().mT,
    }[layout]
    for call, inputs in ((depthwise, depthwise_inputs(2, 6, 4, 5)), (norm, norm_inputs(2, 7, 12))):
        strided = [change(inputs[0]), *inputs[1:]]
        assert relative_error(call(*strided, backend="rust"), call(*strided, backend="reference")) < 1e-13


def test_results_are_channels_last():
    y = depthwise(*depthwise_inputs(2, 6, 4, 5))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_bits_do_not_depend_on_threads():
    cases = [
        (depthwise, depthwise_inputs(3, 72, 19, 31, dtype=torch.float32)),
        (norm, norm_inputs(3, 589, 72, dtype=torch.float32)),
    ]
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 5, 1):
            torch.set_num_threads(threads)
            runs.append([t for call, inputs in cases for t in gradients(call, inputs)])
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512", "neon"])
def test_every_cpu_level_agrees(level):
    script = (
        "import json, torch\n"
        "from mamba_yolo._rust import cpu_level\n"
        "from ops.test_fused import *\n"
        "one = gradients(depthwise, depthwise_inputs(1, 21, 6, 5, dtype=torch.float32))\n"
        "two = gradients(norm, norm_inputs(1, 6, 21, dtype=torch.float32))\n"
        "print(json.dumps([cpu_level(), [t.flatten().tolist() for t in one + two]]))\n"
    )
    env = {**os.environ, "MAMBA_YOLO_CPU": level, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    if f"MAMBA_YOLO_CPU={level} is not available" in run.stderr:
        pytest.skip(f"this machine has no {level}")
    name, got = json.loads(run.stdout)
    exact = gradients(depthwise, depthwise_inputs(1, 21, 6, 5), backend="reference")
    exact += gradients(norm, norm_inputs(1, 6, 21), backend="reference")
    assert name == level
    assert all(relative_error(torch.tensor(a), b.flatten()) < 1e-5 for a, b in zip(got, exact, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # opcheck looks at every input
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(requires_grad):
    wide, *parameters = [t.requires_grad_(requires_grad) for t in depthwise_inputs(1, 5, 3, 4)]
    x, gate = (t.detach().requires_grad_(requires_grad) for t in wide.chunk(2, dim=1))
    for chosen in (gate, None):
        torch.library.opcheck(torch.ops.mamba_yolo.depthwise_forward, (x, *parameters, chosen, True))
    wide, *parameters = [t.requires_grad_(requires_grad) for t in norm_inputs(1, 5, 3)]
    x, gate = (t.detach().requires_grad_(requires_grad) for t in wide.chunk(2, dim=2))
    torch.library.opcheck(torch.ops.mamba_yolo.norm_forward, (x, *parameters, gate, 1e-5))


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_compiles_to_one_graph():
    for call, inputs in ((depthwise, depthwise_inputs(2, 6, 4, 5)), (norm, norm_inputs(2, 7, 12))):
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        assert all(map(torch.equal, gradients(compiled, inputs), gradients(call, inputs)))


@backends
@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda t: t[0], r"x must be a floating \(B, D, H, W\) tensor"),
        (0, lambda t: t.long(), "x must be a floating"),
        (1, lambda t: t[:, 0], r"weight must have shape \(6, 1, 3, 3\), got \(6, 3, 3\)"),
        (2, lambda t: t[1:], r"bias must have shape \(6,\), got \(5,\)"),
        (3, lambda t: t[..., 1:], "gate must have shape"),
        (0, lambda t: t.to("meta"), "weight is on cpu, x on meta"),
    ],
)
def test_depthwise_shapes_are_checked(backend, position, change, message):
    wide, *parameters = depthwise_inputs(2, 6, 4, 5)
    inputs = [wide[:, :6], *parameters, wide[:, 6:]]
    inputs[position] = change(inputs[position])
    with pytest.raises(ShapeError, match=message):
        depthwise_gelu(*inputs, backend=backend)


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda t: t[0], r"x must be a floating \(B, L, D\) tensor"),
        (1, lambda t: t[1:], r"weight must have shape \(12,\)"),
        (2, lambda t: t[1:], "bias must have shape"),
        (3, lambda t: t[:, 1:], r"gate must have shape \(2, 7, 12\), got \(2, 6, 12\)"),
    ],
)
def test_norm_shapes_are_checked(position, change, message):
    wide, *parameters = norm_inputs(2, 7, 12)
    inputs = [wide[..., :12], *parameters, wide[..., 12:]]
    inputs[position] = change(inputs[position])
    with pytest.raises(ShapeError, match=message):
        norm_gate(*inputs)
