"""The Triton scan of gpu_peers.py, in a file of its own since Triton exists on few machines."""

import triton
import triton.language as tl


@triton.jit
def _after(decay, state, next_decay, next_state):
    return decay * next_decay, state * next_decay + next_state


@triton.jit
def scan_rows(
    u, delta, A, B, C, D, bias, y, rows, length, rows_per_group, N: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    image, row = tl.program_id(0), tl.program_id(1)
    groups = rows // rows_per_group
    at = (image * rows + row) * length
    shared = (image * groups + row // rows_per_group) * N * length
    inner = tl.arange(0, TILE)
    states = tl.arange(0, N)
    carry = tl.zeros([N], tl.float32)
    for begin in range(0, length, TILE):
        t = begin + inner
        live = t < length
        x = tl.load(u + at + t, live, 0.0).to(tl.float32)
        step = tl.load(delta + at + t, live, 0.0).to(tl.float32) + tl.load(bias + row)
        step = tl.where(live, tl.where(step > 20, step, tl.log(1 + tl.exp(step))), 0.0)
        out = tl.load(D + row) * x
        for n in tl.static_range(N):
            b = tl.load(B + shared + n * length + t, live, 0.0).to(tl.float32)
            c = tl.load(C + shared + n * length + t, live, 0.0).to(tl.float32)
            decay = tl.exp(step * tl.load(A + row * N + n))
            before = tl.sum(tl.where(states == n, carry, 0.0))
            product, h = tl.associative_scan((decay, step * x * b), 0, _after)
            h += product * before
            out += h * c
            last = tl.sum(tl.where(inner == TILE - 1, h, 0.0))
            carry = tl.where(states == n, last, carry)
        tl.store(y + at + t, out.to(y.dtype.element_ty), live)
