"""Which forward kernel a scan on a GPU takes, and into how many segments its sequences are cut: a small cost model.

A kernel's time is counted in issue slots of one of a processor's four parts, all of which take one warp at a time here:
what a warp issues, or what its exponentials hold the special-function unit, times how many warps each part has to run.
The result depends on the shape and the GPU alone, so repeated runs give the same bits. Figures and their origin:
docs/adr/008-modes-of-the-cuda-scan.md. Test: tests/kernels/test_launch.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

STATES, CHUNK_TOKENS, TILE_TOKENS = 16, 16, 32
SWEEP_CHANNELS, LANES, WARP = 64, 4, 32  # of a warp in scan_sweep; threads per channel in scan_forward
PARTS_PER_PROCESSOR = 4
# Slots of a warp and token, counted in the cubin for sm_90: a lane has 2 channels of 16 states, or a quarter of one.
SWEEP_SLOTS, FORWARD_SLOTS, SUMMARY_SLOTS = 272, 40, 35
SLOTS_PER_RANK = 0.7  # and token, of scan_forward and scan_summary
FOLD_SLOTS = 400  # per earlier segment: mostly the wait for its summary
LAUNCH_SLOTS = 4000  # 2 us
# A segmented backward scan takes every exponential twice: it pays where whole sequences would leave half the GPU idle.
BUSY_WARPS_PER_PROCESSOR, SEGMENTED_WARPS_PER_PROCESSOR = 4, 8


class Plan(NamedTuple):
    """A launch: kernel without the dtype's suffix, grid and block size, dynamic shared memory, segments."""

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int
    segments: int
    segment_tokens: int


def plan_forward(
    batch: int, length: int, channels: int, states: int, rank: int, directions: int, is_map: bool, num_processors: int
) -> Plan:
    """The cheapest way by the cost model.

    Args:
        batch: images.
        length: tokens.
        channels: D.
        states: N.
        rank: of dt.
        directions: 4, or 1 for a sequence.
        is_map: steps are projected and pass through softplus.
        num_processors: of the GPU.
    """
    parts = PARTS_PER_PROCESSOR * num_processors
    sequences = batch * directions
    most = max(1, math.isqrt(length) // 2)
    candidates = {_cost_of_segments(sequences, length, channels, states, rank, s, parts): s for s in _powers(most)}
    cost = min(candidates)
    can_sweep = is_map and states == STATES and rank > 0 and channels % SWEEP_CHANNELS == 0 and length % 8 == 0
    if can_sweep:
        warps = sequences * channels // SWEEP_CHANNELS
        if ceil_div(warps, parts) * length * SWEEP_SLOTS <= cost:
            return _sweep(warps, length, channels, rank)
    each = _even(length, candidates[cost])
    tiles = ceil_div(channels, WARP)
    threads = WARP * ceil_div(ceil_div(channels, tiles), WARP // LANES)
    segments = ceil_div(length, each)
    blocks = sequences * ceil_div(states, STATES) * tiles * segments
    pitch = 4 * (ceil_div(rank, 4) | 1)
    shared = 4 * (2 * TILE_TOKENS + TILE_TOKENS * 2 * STATES + pitch * (TILE_TOKENS + threads // LANES))
    return Plan("scan_forward", blocks, threads, shared, segments, each)


def segment_tokens(length: int, warps: int, num_processors: int) -> int:
    """How long the segments are that a sequence is cut into on the way back; at least the length when it stays whole.

    Args:
        length: tokens.
        warps: in the grid when sequences stay whole.
        num_processors: of the GPU.
    """
    segments = 1
    if 2 * warps < BUSY_WARPS_PER_PROCESSOR * num_processors:
        wanted = ceil_div(SEGMENTED_WARPS_PER_PROCESSOR * num_processors, warps)
        segments = min(wanted, math.isqrt(length))  # each folds the ends of all before it: no more of them than tokens
    return _even(length, segments)


def ceil_div(a: int, b: int) -> int:
    """A / b, rounded up."""
    return (a + b - 1) // b


def _sweep(warps: int, length: int, channels: int, rank: int) -> Plan:
    """Two warps a block where the channels divide so: they share what is staged."""
    together = 2 - channels // SWEEP_CHANNELS % 2
    shared = 4 * (2 * TILE_TOKENS + TILE_TOKENS * 2 * STATES + rank * (TILE_TOKENS + 4 + 2 * SWEEP_CHANNELS))
    return Plan("scan_sweep", warps // together, WARP * together, shared, 1, _even(length, 1))


def _cost_of_segments(
    sequences: int, length: int, channels: int, states: int, rank: int, segments: int, parts: int
) -> float:
    warps = sequences * ceil_div(states, STATES) * ceil_div(channels * LANES, WARP)
    tokens, extra = _even(length, segments), SLOTS_PER_RANK * rank
    cost = ceil_div(warps * segments, parts) * tokens * (FORWARD_SLOTS + extra)
    if segments == 1:
        return cost
    summary = ceil_div(warps * (segments - 1), parts) * tokens * (SUMMARY_SLOTS + extra)
    return cost + summary + segments * FOLD_SLOTS + LAUNCH_SLOTS


def _powers(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length())]


def _even(length: int, segments: int) -> int:
    """Tokens of a segment, a multiple of a tile."""
    return TILE_TOKENS * ceil_div(ceil_div(length, segments), TILE_TOKENS)
