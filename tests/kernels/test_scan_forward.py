"""The forward scan of cuda/, run on the CPU twin, against the definition in float64."""

import pytest
import torch

from kernels.cases import Case, forward
from ops.scan_cases import relative_error

# L in {1, tile - 1, tile, tile + 1, tile + chunk, 3 tiles + 5}, D in {1, 31, 40, block + 1}, H != W
SHAPES = [
    {"height": 1, "width": 1, "channels": 1, "rank": 1},
    {"height": 31, "width": 1, "channels": 31, "batch": 3},
    {"height": 4, "width": 8, "channels": 40, "batch": 1},
    {"height": 3, "width": 11, "channels": 129, "batch": 1},
    {"height": 1, "width": 101, "channels": 40, "batch": 3, "rank": 5},
    {"height": 5, "width": 7, "channels": 33, "states": 5},
    {"height": 6, "width": 8, "channels": 5, "batch": 2},
    {"height": 5, "width": 7, "channels": 8, "states": 35, "batch": 1},
    {"length": 1, "channels": 3},
    {"length": 101, "channels": 40, "states": 16},
    {"length": 37, "channels": 7, "states": 20, "batch": 1},
]
# What the sweeps take, by the states of a thread: D a multiple of 4 of them, L of two spans; less and more than a tile
# and than a chunk, directions that meet within a chunk, at the end of a tile and in one.
SWEPT = [
    (32, {"height": 2, "width": 8, "channels": 128, "rank": 1, "batch": 3}),
    (32, {"height": 4, "width": 28, "channels": 256, "rank": 5, "batch": 1}),
    (16, {"height": 8, "width": 6, "channels": 64, "rank": 3, "batch": 2}),
    (16, {"height": 4, "width": 32, "channels": 128, "rank": 2, "batch": 1}),
    (8, {"height": 4, "width": 8, "channels": 96, "rank": 1, "batch": 2}),
    (8, {"height": 4, "width": 40, "channels": 32, "rank": 4, "batch": 1}),
    (4, {"height": 8, "width": 4, "channels": 48, "rank": 2, "batch": 2}),
    (4, {"height": 3, "width": 64, "channels": 16, "rank": 5, "batch": 1}),
]
LIMITS = {"f32": 1e-6, "f16": 6e-4, "bf16": 5e-3}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("suffix", LIMITS)
def test_equals_the_definition_in_any_order(shape, suffix):
    case = Case(suffix, **shape)
    y, states = forward(case)
    assert torch.isfinite(y).all()
    assert not (states != states).any()
    assert relative_error(y.double(), case.reference()) < LIMITS[suffix]
    for order in (1, 7):
        again, states_again = forward(case, order=order)
        assert torch.equal(again, y)
        assert (states_again == states).all()


@pytest.mark.parametrize(("sweep", "shape"), SWEPT)
@pytest.mark.parametrize("suffix", LIMITS)
def test_the_sweep_equals_the_definition_in_any_order(sweep, shape, suffix):
    case = Case(suffix, **shape)
    y, states = forward(case, sweep=sweep)
    assert relative_error(y.double(), case.reference()) < LIMITS[suffix]
    expected = forward(case)[1]
    assert abs(states - expected).max() <= 1e-6 * abs(expected).max()
    for order in (1, 7):
        again, states_again = forward(case, sweep=sweep, order=order)
        assert torch.equal(again, y)
        assert (states_again == states).all()
    assert torch.equal(forward(case, save=False, sweep=sweep)[0], y)


@pytest.mark.parametrize("shape", [SHAPES[4], SHAPES[7], SHAPES[9]])
@pytest.mark.parametrize("segment_tokens", [32, 64])
def test_segments_agree(shape, segment_tokens):
    case = Case(segment_tokens=segment_tokens, **shape)
    y, states = forward(case)
    assert relative_error(y.double(), case.reference()) < 1e-6
    whole = forward(Case(**shape))[1]
    assert abs(states - whole).max() < 1e-6 * abs(whole).max()
    assert torch.equal(forward(case, order=3)[0], y)


@pytest.mark.parametrize("how", [{"jitter": 1}, {"build": "contracted"}, {"build": "ubsan"}])
def test_survives_another_rounding(how):
    for sweep, shape in ((0, SHAPES[4]), *SWEPT[1::2]):
        case = Case(**shape)
        assert relative_error(forward(case, sweep=sweep, **how)[0].double(), case.reference()) < 3e-6


def test_saves_nothing_when_not_asked():
    case = Case(**SHAPES[2])
    assert torch.equal(forward(case, save=False)[0], forward(case)[0])


@pytest.mark.parametrize("v", [-30.0, -1.0, 0.0, 19.9, 20.1, 40.0])
def test_extreme_steps(v):
    for sweep, shape in ((0, SHAPES[2]), SWEPT[0], SWEPT[6]):
        case = Case(**shape)
        for tensors in (case.tensors, case.exact):
            tensors[3].data.zero_()
            tensors[4].data.fill_(v)
        assert relative_error(forward(case, sweep=sweep)[0].double(), case.reference()) < 1e-6
