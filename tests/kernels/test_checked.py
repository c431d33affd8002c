"""Every access of every kernel: races, bounds, uninitialised memory; and that such faults, planted, are found."""

import ctypes
import re

import numpy as np
import pytest
import torch

from kernels.cases import Case, add, backward, forward, structure
from kernels.twin import machine
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


@pytest.mark.parametrize("suffix", ["f32", "bf16"])
@pytest.mark.parametrize(("sweep", "width"), [(32, 40), (16, 40), (8, 48), (4, 48)])
def test_every_access_of_a_sweep_is_allowed(suffix, sweep, width):
    case = Case(suffix, height=2, width=width, channels=4 * sweep, rank=3, batch=1)
    assert torch.equal(forward(case, "check", sweep=sweep)[0], forward(case, sweep=sweep)[0])


FAULTS = {
    "barrier at the end of a tile": (
        "scan_forward.cu",
        "        __syncthreads();\n    }\n",
        "    }\n",
        "race in 'shared",
    ),
    "barrier at the end of a swept tile": (
        "scan_sweep.cu",
        "        __syncthreads();\n    }\n",
        "    }\n",
        "race in 'shared",
    ),
    "next tile's tokens over this tile's": (
        "scan_sweep.cu",
        "(here ^ TILE) + thread]",
        "here + thread]",
        "race in 'shared",
    ),
    "weights of another channel": ("scan_sweep.cu", "HALF / W::LANES * W::PAIR;", "HALF / 8;", "race in 'shared"),
    "tokens that the other direction has still to leave": (
        "scan_sweep.cu",
        "t0 >= middle &&",
        "t0 + TILE >= middle &&",
        "race in 'parts'|never written",
    ),
    "step of another thread": ("scan_forward.cu", "(~0u, s, j, LANES)", "(0xfu, s, j, LANES)", "not in its own mask"),
    "tail of the map": ("scan.cuh", "    t = min(t, a.length - 1);\n", "", "past the end"),
    "channel beyond the last": ("scan_forward.cu", "part.live && t0 + at", "t0 + at", "race in 'parts'|past the end"),
    "checkpoints not offset": (
        "scan.cuh",
        "+ part.channel;\n}\n\n// What skips",
        ";\n}\n\n// What skips",
        "race in 'checkpoints'",
    ),
    "sum past the end": ("scan_sum.cu", "i < a.count) sum", "i <= a.count) sum", "0 bytes past the end of"),
    "barrier before products are summed": (
        "scan_backward.cu",
        "        __syncthreads();\n        sum_products",
        "        sum_products",
        "race in 'shared|never written",
    ),
    "barrier after products are summed": (
        "scan_backward.cu",
        "left, from, count);\n        __syncthreads();",
        "left, from, count);",
        "race in 'shared",
    ),
    "accumulators not cleared": ("scan_backward.cu", "        scratch.dA[own] = 0.0f;\n", "", "never written"),
    "half a warp's mask": ("scan_backward.cu", "__shfl_xor_sync(~0u", "__shfl_xor_sync(0xffff", "not in its own mask"),
    "early return": (
        "scan_backward.cu",
        "    open_weights(a, part, staged);",
        "    if (!part.live) return;\n    open_weights(a, part, staged);",
        "wait for each other|never written",
    ),
    "two blocks, one address": (
        "scan_backward.cu",
        "(i64)part.batch * a.length * a.channels + first",
        "first",
        "race in 'ddelta'|race in 'parts'",
    ),
    "misaligned": ("scan_backward.cu", "DV_PITCH = CHANNELS + 4", "DV_PITCH = CHANNELS + 1", "not aligned"),
}


def run_checked(file, case, states, sequence, sequence_states):
    if file == "scan_backward.cu":
        backward(case, states, "check")
        backward(sequence, sequence_states, "check")
    elif file == "scan_sweep.cu":
        forward(Case(height=3, width=32, channels=16, rank=2, batch=1), "check", sweep=4)
    elif file == "scan_sum.cu":
        add(np.ones((2, 37), np.float32), "f32", "check")
    else:
        forward(case, "check")


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault, tmp_path, monkeypatch):
    file, right, wrong, message = FAULTS[fault]
    for path in machine.KERNELS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / file).read_text("utf-8")
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong), "utf-8")
    case = Case(height=3, width=35, channels=5, rank=2, batch=1)
    sequence = Case(length=37, channels=5, batch=2)
    states, sequence_states = (forward(c)[1] for c in (case, sequence))
    monkeypatch.setattr(machine, "KERNELS", tmp_path)
    with pytest.raises(KernelError, match=message) as caught:
        run_checked(file, case, states, sequence, sequence_states)
    assert re.search(r"\.cuh?:\d+: |line \d+", str(caught.value))


# Images, of which the last is run on memory that is never touched elsewhere: offsets beyond 2^31 elements.
GIANT = 1_500_000
GIANTS = [("scan_forward", 9, 33, 96, 1088 + 4 * 56, 8, 4)] + [
    (f"scan_sweep{n}", 16, 4 * n, 128, 2 * (1088 + 2 * (36 + 4 * n)), 2, 2) for n in (32, 16, 8, 4)
]


def ones(address, count):
    """Write ones, in float32."""
    ctypes.memmove(address, (ctypes.c_float * count)(*[1.0] * count), 4 * count)


def view(address, count):
    """Floats at an address."""
    return np.frombuffer((ctypes.c_char * (4 * count)).from_address(address), np.float32)


def places(m, **counts):
    """Addresses of so many floats each, zero."""
    return [m.address(name, 4 * count, writable=True, initialised=True) for name, count in counts.items()]


@pytest.mark.parametrize(("kernel", "width", "D", "threads", "shared", "blocks", "planes"), GIANTS)
def test_the_last_blocks_of_a_giant(kernel, width, D, threads, shared, blocks, planes):
    B, H, N, R, K = GIANT, 6 if planes == 2 else 5, 16, 2, 4
    L = H * width
    with Machine(f"{kernel.rstrip('0123456789')}.cu") as m:
        x, proj, parts = places(m, x=B * L * D, proj=B * L * K * (R + 2 * N), parts=planes * B * L * D)
        weight, bias, A, skip, states = places(
            m, weight=K * D * R, bias=K * D, A=K * D * N, skip=K * D, checkpoints=B * K * -(-L // 16) * N * D
        )
        ones(x + 4 * (B - 1) * L * D, L * D)
        ones(skip, K * D)
        arguments = structure("ScanForward")(
            *(x, None, proj, weight, bias, A, skip, None, None, parts, states),
            *(B, L, D, N, R, K, H, width, 1, 1, 64, 0),
        )
        last = parts + 4 * (planes * B - 1) * L * D
        ctypes.memset(last, 0xFF, 4 * L * D)
        m.launch(f"{kernel}_f32", arguments, B * blocks, threads, 4 * shared, first=(B - 1) * blocks)
        assert (view(last, L * D) == K // planes).all()  # the skips alone: proj is zero


@pytest.mark.parametrize("kernel", ["scan_backward", "scan_adjoint"])
def test_the_last_block_of_a_giant_backward(kernel):
    B, L, D, N, R, K = GIANT, 45, 33, 16, 2, 4
    S = 2 if kernel == "scan_adjoint" else 1
    Q = K * D * (N + R + 2)
    with Machine(f"{kernel}.cu") as m:
        dy, x, proj = places(m, dy=B * L * D, x=B * L * D, proj=B * L * K * (R + 2 * N))
        weight, bias, A, skip = places(m, weight=K * D * R, bias=K * D, A=K * D * N, skip=K * D)
        states, ends, steps = places(m, checkpoints=B * K * 3 * N * D, ends=B * K * N * D, steps=B * K * D)
        parts, dproj, dparameters = places(m, parts=K * B * L * D, dproj=B * L * K * (R + 2 * N), dparameters=B * Q)
        ones(dy + 4 * (B - 1) * L * D, L * D)
        ones(skip, K * D)
        arguments = structure("ScanBackward")(
            *(dy, x, None, proj, weight, bias, A, skip, states, ends, steps, parts, None, dproj, dparameters),
            *(B, L, D, N, R, K, 5, 9, 1, S, 32 if S == 2 else 64, 0),
        )
        if kernel == "scan_adjoint":
            ones(proj + 4 * ((B - 1) * L * K * (R + 2 * N)), L * K * (R + 2 * N))
            m.launch("scan_adjoint_f32", arguments, B * K, 64, 4 * (1056 + 164 * R), first=B * K - 1, count=1)
            slope_sum = L - 32  # A is 0: what the second segment adds up
            assert (view(ends + 4 * (B * K - 1) * N * D, N * D) == slope_sum).all()
            return
        last = parts + 4 * (K * B - 1) * L * D
        ctypes.memset(last, 0xFF, 4 * L * D)
        m.launch("scan_backward_f32", arguments, B * K, 64, 4 * (6828 + 148 * R), first=B * K - 1, count=1)
        assert (view(last, L * D) == 1).all()  # the skip's alone


def test_the_last_block_of_a_giant_backward_with_more_states():
    B, L, D, N = GIANT, 45, 33, 18  # two planes of states, the second's gradient of delta beyond 2^31 elements
    M, P, numbers = 2, 2 * N, B * L * D
    with Machine("scan_backward.cu") as m:
        dy, x, delta, proj = places(m, dy=numbers, x=numbers, delta=numbers, proj=B * L * P)
        weight, bias, A, skip = places(m, weight=1, bias=D, A=D * N, skip=D)
        states, parts, ddelta = places(m, checkpoints=B * 3 * N * D, parts=M * numbers, ddelta=M * numbers)
        dproj, dparameters = places(m, dproj=M * B * L * P, dparameters=B * M * D * (N + 2))
        for stream, count in ((dy, L * D), (x, L * D), (proj, L * P)):
            ones(stream + 4 * (B - 1) * count, count)
        arguments = structure("ScanBackward")(
            *(dy, x, delta, proj, weight, bias, A, skip, states, None, None, parts, ddelta, dproj, dparameters),
            *(B, L, D, N, 0, 1, 0, 0, 0, 1, 64, 0),
        )
        last = ddelta + 4 * (M * numbers - L * D)
        ctypes.memset(last, 0xFF, 4 * L * D)
        m.launch("scan_backward_f32", arguments, B * M, 64, 4 * 6828, first=B * M - 1)
        adjoints = np.arange(L, 0, -1)[:, None]  # A is 0: of each of the plane's two states
        assert (view(last, L * D).reshape(L, D) == 2 * adjoints).all()


def test_the_last_block_of_a_giant_sum():
    count = 2**31 + 700
    with Machine("scan_sum.cu") as m:
        parts, out = places(m, parts=2 * count, out=count)
        ones(parts + 4 * (2 * count - 188), 188)
        blocks = -(-count // 512)
        m.launch("scan_sum_f32", structure("ScanSum")(parts, out, count, count, 2, 0), blocks, 128, 0, first=blocks - 1)
        assert (view(out + 4 * (count - 188), 188) == 1).all()


def test_the_last_block_of_a_giant_norm_gate():
    tokens = 2**31 + 8
    with Machine("norm_gate.cu") as m:
        parts, weight, bias, gate, out = places(m, parts=tokens, weight=1, bias=1, gate=tokens, out=tokens)
        ones(bias, 1)
        ones(gate + 4 * (tokens - 4), 4)
        arguments = structure("NormGate")(parts, weight, bias, gate, out, tokens, 1, 1, 1, 0, 1e-5)
        m.launch("norm_gate_f32", arguments, tokens // 4, 128, 0, first=tokens // 4 - 1)
        expected = torch.nn.functional.gelu(torch.ones(4)).numpy()
        assert np.allclose(view(out + 4 * (tokens - 4), 4), expected)


def test_endless_loops_end(tmp_path, monkeypatch):
    text = (machine.KERNELS / "scan_sum.cu").read_text("utf-8").replace("++p)", "p += 0)")
    (tmp_path / "scan_sum.cu").write_text(text, "utf-8")
    for header in machine.KERNELS.glob("*.cuh"):
        (tmp_path / header.name).write_bytes(header.read_bytes())
    monkeypatch.setattr(machine, "KERNELS", tmp_path)
    with pytest.raises(KernelError, match="still running after 1 s"):
        add(np.ones((2, 5), np.float32), "f32", seconds=1)


def test_halves_are_rounded_as_torch_does():
    bits = torch.arange(0, 2**32, 65_521, dtype=torch.int64).to(torch.int32)
    values = torch.cat(
        [bits.view(torch.float32), torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()]
    )
    for suffix, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        expected = (values + 0.0).to(dtype)
        got = add(values[None].numpy(), suffix)
        assert torch.equal(got.isnan(), expected.isnan())
        assert torch.equal(got[~got.isnan()], expected[~expected.isnan()])
