"""What gpu_acceptance.py requires of the scan on a device: correct, repeatable, fit for autocast, compile and graphs.

All but `check_graph` and `check_memory` run on the CPU as well, which tests/test_gpu_acceptance.py does.

Legend: B images, L = H * W tokens, D channels, N states, R rank of dt, K directions.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import torch

from mamba_yolo.ops import selective_scan, ss2d_scan

K, N = 4, 16
MAPS = [  # B, H, W, D, R, N
    (1, 1, 1, 1, 1, 16),
    (3, 1, 7, 31, 2, 16),
    (2, 13, 17, 40, 3, 16),
    (1, 48, 80, 129, 8, 16),
    (2, 20, 20, 512, 16, 16),
    (1, 160, 160, 64, 2, 16),
    (2, 9, 5, 24, 3, 20),
    (1, 6, 6, 1152, 36, 16),
    (16, 4, 8, 512, 16, 16),  # on a GPU of 132 processors scan_sweep32, the next ones 16, 8 and 4
    (8, 20, 20, 512, 16, 16),
    (16, 8, 4, 128, 4, 16),
    (3, 8, 8, 320, 5, 16),
    (70, 3, 3, 8, 1, 5),
]
TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest value


def map_inputs(shape, device, dtype=torch.float32, seed=0):
    """Arguments of ss2d_scan: steps 0.001 to 0.1, A from -0.3 to -3."""
    batch, height, width, channels, rank, states = shape
    rng = torch.Generator().manual_seed(seed)
    make = lambda *size: torch.randn(*size, generator=rng)  # noqa: E731
    tensors = [
        make(batch, height * width, channels).to(dtype),
        make(batch, height * width, K * (rank + 2 * states)).to(dtype),
        make(K, channels, rank) * 0.1,
        make(K, channels) - 4,
        make(K * channels, states) * 0.4,
        make(K * channels),
    ]
    return [*(t.to(device) for t in tensors), height, width]


def sequence_inputs(groups, channels, length, states):
    """Arguments of selective_scan for two sequences."""
    rng = torch.Generator().manual_seed(1)
    make = lambda *size: torch.randn(*size, generator=rng)  # noqa: E731
    shared = (2, groups, states, length)
    tokens, A = [make(2, channels, length) for _ in range(2)], -make(channels, states).exp()
    return [*tokens, A, make(*shared), make(*shared), make(channels), make(channels)]


def with_gradients(call, inputs):
    """Output and gradients for a fixed weighting of the output."""
    leaves = [t.detach().clone().requires_grad_() if isinstance(t, torch.Tensor) else t for t in inputs]
    y = call(*leaves)
    weight = torch.linspace(-3, 3, y.numel(), device=y.device).cos().view(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [t for t in leaves if isinstance(t, torch.Tensor)], weight)]


def require_close(got, expected, limit):
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        scale = b.double().abs().max().clamp(min=1e-30)
        off = float((a.cpu().double() - b.double()).abs().max() / scale)
        assert off < limit, f"result {i} of shape {tuple(b.shape)} is {off:.1e} off, allowed {limit:.0e}"


def check_maps(device):
    """Output and gradients against float64 on the CPU."""
    for shape in MAPS:
        for dtype in TOLERANCE:
            inputs = map_inputs(shape, device, dtype)
            exact = [t.cpu().double() if isinstance(t, torch.Tensor) else t for t in inputs]
            require_close(with_gradients(ss2d_scan, inputs), with_gradients(ss2d_scan, exact), TOLERANCE[dtype])


def check_sequences(device):
    """The layout of mamba, with and without groups."""
    for groups, length in ((1, 37), (3, 1000)):
        inputs = sequence_inputs(groups, 12, length, 8)
        call = lambda *tensors: selective_scan(*tensors, True)  # noqa: E731
        exact = with_gradients(call, [t.double() for t in inputs])
        require_close(with_gradients(call, [t.to(device) for t in inputs]), exact, TOLERANCE[torch.float32])


def check_same_bits(device):
    """Two runs, the second in memory full of NaN; the first also on another stream."""
    for shape in MAPS:
        inputs = map_inputs(shape, device)
        first = with_gradients(ss2d_scan, inputs)
        poison = [torch.full((2**24,), torch.nan, device=device) for _ in range(4 if device == "cpu" else 16)]
        del poison
        assert all(torch.equal(a, b) for a, b in zip(first, with_gradients(ss2d_scan, inputs), strict=True)), shape
        if device == "cuda":
            torch.cuda.synchronize()
            with torch.cuda.stream(torch.cuda.Stream()):
                other = with_gradients(ss2d_scan, inputs)
            torch.cuda.synchronize()
            assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True)), f"stream, {shape}"


def check_autocast(device):
    """A network's way: projections in half precision, parameters in float32, a scaled loss."""
    x, _, dt_weight, dt_bias, A_logs, Ds, height, width = map_inputs((2, 12, 10, 32, 2, N), device)
    project = torch.nn.Linear(32, K * (2 + 2 * N), device=device)
    parameters = [t.requires_grad_() for t in (dt_weight, dt_bias, A_logs, Ds)]
    for dtype in (torch.float16, torch.bfloat16):
        scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
        with torch.autocast(device, dtype):
            y = ss2d_scan(x.to(dtype), project(x), *parameters, height, width)
        assert y.dtype == dtype
        scaler.scale(y.float().square().mean()).backward()
        assert all(t.grad is not None and t.grad.isfinite().all() for t in (*parameters, project.weight))


def check_compile(device):
    """One graph, the same result."""
    inputs = map_inputs((2, 12, 10, 32, 2, N), device)
    compiled = torch.compile(ss2d_scan, fullgraph=True, backend="aot_eager")
    require_close(with_gradients(compiled, inputs), [t.cpu() for t in with_gradients(ss2d_scan, inputs)], 1e-6)


def check_graph(device):
    """A captured scan, replayed on other data, equals the eager one."""
    inputs, others = map_inputs(MAPS[2], device), map_inputs(MAPS[2], device, seed=5)
    replay, y = captured(lambda: ss2d_scan(*inputs))
    with torch.no_grad():
        for to, source in zip(inputs[:6], others[:6], strict=True):
            to.copy_(source)
    replay()
    torch.cuda.synchronize()
    assert torch.equal(y, ss2d_scan(*others))


def check_memory(device):
    """compute-sanitizer, where it is installed, finds nothing in the checks of maps."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed: not run"
    script = "import gpu_checks as g; g.MAPS[:] = g.MAPS[:3] + g.MAPS[6:7]; g.check_maps('cuda')"
    command = [tool, "--error-exitcode", "9", sys.executable, "-c", script]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout[-2000:]
    return "compute-sanitizer found nothing"


ON_ANY_DEVICE = (check_maps, check_sequences, check_same_bits, check_autocast, check_compile)
CHECKS = (*ON_ANY_DEVICE, check_graph, check_memory)


def run_checks(checks, device):
    """One row per check: its name, whether it passed, what it said."""
    rows = []
    for check in checks:
        try:
            said = check(device) or "passed"
            rows.append({"check": check.__name__.removeprefix("check_"), "ok": True, "said": said})
        except Exception as error:  # noqa: BLE001  (a report of what failed is what this is for)
            traceback.print_exc()
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            rows.append({"check": check.__name__.removeprefix("check_"), "ok": False, "said": said})
        print(rows[-1])
    return rows


def captured(call):
    """A call as a CUDA graph: its replay, and the tensor that every replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = call()
    return graph.replay, y
