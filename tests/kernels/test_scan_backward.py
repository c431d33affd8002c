"""The backward scan of cuda/, run on the CPU twin, against the gradients of the definition in float64."""

import pytest
import torch

from kernels.cases import Case, backward, forward, reference_gradients
from kernels.test_scan_forward import SHAPES
from ops.scan_cases import relative_error

LIMITS = {"f32": 4e-6, "f16": 1e-3, "bf16": 8e-3}


def errors(case, gradients):
    return {name: relative_error(gradients[name].double(), g) for name, g in reference_gradients(case).items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("suffix", LIMITS)
def test_equals_the_definition_in_any_order(shape, suffix):
    case = Case(suffix, **shape)
    checkpoints = forward(case)[1]
    ours = backward(case, checkpoints)
    assert all(torch.isfinite(g).all() for g in ours.values())
    assert max(errors(case, ours).values()) < LIMITS[suffix], errors(case, ours)
    for order in (1, 7):
        again = backward(case, checkpoints, order=order)
        assert all(torch.equal(again[name], ours[name]) for name in ours)


ONE_OVER = {"height": 1, "width": 97, "channels": 3, "batch": 1}  # of a tile, where a segment has 64 tokens


@pytest.mark.parametrize("shape", [SHAPES[4], SHAPES[7], SHAPES[9], ONE_OVER])
@pytest.mark.parametrize("segment_tokens", [32, 64])
def test_segments_agree(shape, segment_tokens):
    case = Case(segment_tokens=segment_tokens, **shape)
    checkpoints = forward(case)[1]
    ours = backward(case, checkpoints)
    assert max(errors(case, ours).values()) < LIMITS["f32"], errors(case, ours)
    again = backward(case, checkpoints, order=5)
    assert all(torch.equal(again[name], ours[name]) for name in ours)


@pytest.mark.parametrize("how", [{"jitter": 1}, {"build": "contracted"}, {"build": "ubsan"}])
def test_survives_another_rounding(how):
    case = Case(**SHAPES[4])
    assert max(errors(case, backward(case, forward(case)[1], **how)).values()) < 1e-5


@pytest.mark.parametrize("v", [-30.0, -1.0, 0.0, 19.9, 20.1, 40.0])
def test_extreme_steps(v):
    case = Case(**SHAPES[2])
    for tensors in (case.tensors, case.exact):
        tensors[3].data.zero_()
        tensors[4].data.fill_(v)
    assert max(errors(case, backward(case, forward(case)[1])).values()) < 2e-5
