"""What is predicted of the CUDA scan where no GPU is: figures of docs/performance.md, and how traffic is counted."""

import sys

import pytest
import torch
from torch.nn import functional

import gpu_predicted as predicted
from gpu_predicted import Kernels, Step, backward_us, forward_us, official_us, ours_us
from kernels.test_gate import innermost_loops


@pytest.mark.parametrize(
    ("us", "expected"),
    [
        (lambda: forward_us(64, 2), 109),
        (lambda: forward_us(64, 4), 112),
        (lambda: forward_us(16, 2), 118),
        (lambda: forward_us(16, 4), 121),
        (lambda: forward_us(1, 2), 288),
        (lambda: backward_us(16, 2), 385),
        (lambda: ours_us(16, 2), 124),
        (lambda: ours_us(16, 4), 132),
        (lambda: official_us(predicted.MAMBA_SLOTS, 2, copies=False), 234),
        (lambda: official_us(predicted.MAMBA_SLOTS, 2), 307),
        (lambda: official_us(predicted.MAMBA_SLOTS, 4), 431),
        (lambda: official_us(predicted.TRITON_SLOTS, 2, copies=False), 852),
    ],
)
def test_figures_of_the_documentation(us, expected):
    assert us() == pytest.approx(expected, abs=0.6)


def test_share_of_a_training_step():
    kernels = predicted.step_kernels(16, 640)
    assert sum(moved for moved, _ in kernels) == pytest.approx(71.5e9, rel=0.01)
    assert sum(flops for _, flops in kernels) == pytest.approx(0.80e12, rel=0.01)
    shares = [predicted.step_of(kernels, 16, *reached).share for reached in ((0.9, 0.6), (0.7, 0.3), (0.5, 0.2))]
    assert shares == pytest.approx([30, 25, 19], abs=0.6)
    assert Step(scan=1.0, rest=3.0).share == 25


def counted(call):
    with Kernels() as kernels:
        call()
    return kernels.seen


def test_an_operator_moves_what_it_reads_and_writes():
    x, row, steps = torch.zeros(2, 3, 4, 5), torch.zeros(5), torch.zeros(2, 3, 4, 5, dtype=torch.float16)
    numbers = x.numel()
    assert counted(lambda: x.mT.flatten(0, 1).unsqueeze(0).detach()) == []  # views
    assert counted(lambda: torch.empty_like(x)) == []
    assert counted(lambda: x + x) == [(8 * numbers, 0)]
    assert counted(lambda: x + row) == [(8 * numbers + 20, 0)]
    assert counted(lambda: x.add_(row.expand(2, 3, 4, 5))) == [(8 * numbers + 20, 0)]
    assert counted(steps.float) == [(6 * numbers, 0)]


def test_convolutions_are_products_and_depthwise_ones_are_not():
    x = torch.zeros(2, 6, 5, 5, requires_grad=True)
    weight, own = torch.zeros(4, 6, 3, 3, requires_grad=True), torch.zeros(6, 1, 3, 3, requires_grad=True)
    y = functional.conv2d(x, weight, padding=1)
    [forward] = counted(lambda: functional.conv2d(x, weight, padding=1))
    assert forward == (4 * (300 + 216 + 200), 2 * 200 * 54)
    [backward] = counted(lambda: torch.autograd.grad(y, (x, weight), torch.ones_like(y)))[-1:]
    assert backward == (4 * (2 * 200 + 300 + 216 + 300 + 216), 2 * forward[1])  # its gradient is read twice
    assert counted(lambda: functional.conv2d(x, own, padding=1, groups=6)) == [(4 * (300 + 54 + 300), 0)]


def test_the_official_pipeline_moves_what_its_lines_say():
    side, D, R, N, K, half = 8, 24, 3, 16, 4, 2
    L = side * side
    copies = (
        18 + 17
    )  # columns 2, both orders 4, flipped 4, all four 8; flipped 4, summed 6, columns 2, summed 3, turned 2
    maps = D * (copies + 2 * K) + K * (R + 2 * N) + K * R + 4 * K * N  # x_proj, dt_proj, B and C copied
    weights = half * (K * (R + 2 * N) * D + K * D * R) + (4 + half) * K * D * R + 4 * 4 * K * D * N
    assert predicted.official_bytes(side, D, R, half) == half * L * maps + weights


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_slots_of_the_triton_scan(tmp_path, monkeypatch):
    triton = pytest.importorskip("triton", reason="torch was installed without Triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    from gpu_peers_triton import scan_rows

    tile, warps, states = 1024, 4, 16
    kinds = dict.fromkeys(("u", "delta", "B", "C", "y"), "*fp32") | dict.fromkeys(("A", "D", "bias"), "*fp32")
    kinds |= dict.fromkeys(("rows", "length", "rows_per_group"), "i32") | dict.fromkeys(("N", "TILE"), "constexpr")
    source = triton.compiler.ASTSource(
        scan_rows, {name: kinds[name] for name in scan_rows.arg_names}, {(11,): states, (12,): tile}
    )
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": warps})
    (tmp_path / "a.cubin").write_bytes(compiled.asm["cubin"])
    updates = states * tile // (32 * warps)  # of a thread
    [loop] = innermost_loops(tmp_path / "a.cubin", "scan_rows", updates)
    assert len(loop) / updates == pytest.approx(predicted.TRITON_SLOTS, rel=0.03)
