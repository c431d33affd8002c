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
LANES, WARP = 4, 32  # threads per channel in scan_forward
PARTS_PER_PROCESSOR, LARGEST_SHARED_BYTES = 4, 48 << 10
# Slots of a warp and token, counted in the cubin for sm_90: a lane has a quarter of a channel's 16 states.
FORWARD_SLOTS, SUMMARY_SLOTS = 42, 33
SLOTS_PER_RANK = 0.6  # and token, of scan_forward and scan_summary
FOLD_SLOTS = 400  # per earlier segment: mostly the wait for its summary
LAUNCH_SLOTS = 4000  # 2 us
# A segmented backward scan takes every exponential twice: it pays where whole sequences would leave half the GPU idle.
# There are as many segments as run at once: registers let a processor have so many warps, and others would come after.
BUSY_WARPS_PER_PROCESSOR, SEGMENTED_WARPS_PER_PROCESSOR = 4, 8


class Sweep(NamedTuple):
    """A kernel scan_sweepN, in which a lane has N states: what it takes and costs.

    A warp's token takes the larger of its issue slots and of what its exponentials take, softplus included.
    """

    states: int  # of a lane
    channels: int  # of a block: two directions of two warps each
    span_tokens: int
    slots: float
    slots_per_rank: float
    exponential_slots: float

    def slots_of_token(self, rank: int) -> float:
        """Of a warp."""
        return max(self.slots + self.slots_per_rank * rank, self.exponential_slots)

    def shared_bytes(self, rank: int) -> int:
        """Of a block."""
        return 2 * 4 * (2 * TILE_TOKENS + TILE_TOKENS * 2 * STATES + rank * (TILE_TOKENS + 4 + self.channels))


SWEEPS = (
    Sweep(32, 128, 8, 216, 3.2, 272),
    Sweep(16, 64, 8, 118, 2.2, 136),
    Sweep(8, 32, 16, 68, 1.1, 68),
    Sweep(4, 16, 16, 41, 0.7, 34),
)
SWEEP_THREADS = 128


class Plan(NamedTuple):
    """A launch: kernel without the dtype's suffix, grid and block size, dynamic shared memory, segments, parts written.

    `slots`: what the model expects of the busiest part of a processor, the launch that comes before included.
    """

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int
    segments: int
    segment_tokens: int
    parts: int
    slots: float


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
    num_parts = PARTS_PER_PROCESSOR * num_processors
    sequences = batch * directions
    most = max(1, math.isqrt(length) // 2)
    candidates = {_cost_of_segments(sequences, length, channels, states, rank, s, num_parts): s for s in _powers(most)}
    cost = min(candidates)
    if is_map and states == STATES and rank > 0:
        sweeps = [s for s in SWEEPS if _takes(s, length, channels, rank)]
        all_states, lanes = sequences * channels * STATES, WARP * num_parts
        costs = [ceil_div(all_states, lanes * s.states) * s.slots_of_token(rank) for s in sweeps]
        if sweeps and min(costs) * length <= cost:
            return _sweep(sweeps[costs.index(min(costs))], batch, length, channels, rank, min(costs) * length)
    each = _even(length, candidates[cost])
    tiles = ceil_div(channels, WARP)
    threads = WARP * ceil_div(ceil_div(channels, tiles), WARP // LANES)
    segments, planes = ceil_div(length, each), ceil_div(states, STATES)
    pitch = 4 * (ceil_div(rank, 4) | 1)
    shared = 4 * (2 * TILE_TOKENS + TILE_TOKENS * 2 * STATES + pitch * (TILE_TOKENS + threads // LANES))
    blocks = sequences * planes * tiles * segments
    return Plan("scan_forward", blocks, threads, shared, segments, each, planes * directions, cost)


def segment_tokens(length: int, warps: int, num_processors: int) -> int:
    """How long the segments are that a sequence is cut into on the way back; at least the length when it stays whole.

    Args:
        length: tokens.
        warps: in the grid when sequences stay whole.
        num_processors: of the GPU.
    """
    segments = 1
    if 2 * warps < BUSY_WARPS_PER_PROCESSOR * num_processors:
        fitting = SEGMENTED_WARPS_PER_PROCESSOR * num_processors // warps
        segments = min(fitting, math.isqrt(length))  # each folds the ends of all before it: no more of them than tokens
    return _even(length, segments)


def ceil_div(a: int, b: int) -> int:
    """A / b, rounded up."""
    return (a + b - 1) // b


def _takes(sweep: Sweep, length: int, channels: int, rank: int) -> bool:
    """The two directions of a block meet between two spans."""
    whole = channels % sweep.channels == 0 and length % (2 * sweep.span_tokens) == 0
    return whole and sweep.shared_bytes(rank) <= LARGEST_SHARED_BYTES


def _sweep(sweep: Sweep, batch: int, length: int, channels: int, rank: int, slots: float) -> Plan:
    """Blocks of a path and its reverse."""
    name, blocks = f"scan_sweep{sweep.states}", batch * 2 * channels // sweep.channels
    return Plan(name, blocks, SWEEP_THREADS, sweep.shared_bytes(rank), 1, _even(length, 1), 2, slots)


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
