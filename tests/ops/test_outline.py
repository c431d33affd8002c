"""Outlines and parts of masks: definition and Rust, against Pillow's polygon filling and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mamba_yolo.errors import DataError
from mamba_yolo.ops import decode_rle, encode_rle, rle_outline, rle_part

backends = pytest.mark.parametrize("backend", ["reference", "rust"])


def outline_of(mask, backend):
    return rle_outline(encode_rle(torch.as_tensor(mask)), backend=backend).numpy()


def area(points):
    x, y = points.T.astype(float)
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


@backends
def test_one_pixel(backend):
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    assert outline_of(mask, backend).tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]


@backends
def test_empty_and_full(backend):
    assert outline_of(np.zeros((4, 4), bool), backend).shape == (0, 2)
    assert outline_of(np.zeros((0, 4), bool), backend).shape == (0, 2)
    assert outline_of(np.ones((4, 6), bool), backend).tolist() == [[0, 0], [6, 0], [6, 4], [0, 4]]


@backends
def test_the_largest_part_wins_and_holes_are_ignored(backend):
    mask = np.zeros((20, 20), bool)
    mask[1:3, 1:3] = True
    mask[8:18, 8:18] = True
    mask[11:13, 11:13] = False
    assert area(outline_of(mask, backend)) == 100


@backends
def test_parts_that_touch_at_a_corner_stay_apart(backend):
    mask = np.zeros((6, 6), bool)
    mask[1:3, 1:3] = mask[3:5, 3:5] = True
    assert area(outline_of(mask, backend)) == 4


@backends
@pytest.mark.parametrize("seed", range(5))
def test_area_equals_the_number_of_pixels(backend, seed):
    """Rectangles through one point: one part without holes, however they lie."""
    numbers = np.random.default_rng(seed)
    mask = np.zeros((100, 100), bool)
    for _ in range(6):
        top, left = numbers.integers(0, 50, 2)
        bottom, right = numbers.integers(51, 101, 2)
        mask[top:bottom, left:right] = True
    points = outline_of(mask, backend)
    assert area(points) == mask.sum()
    filled = Image.new("1", (100, 100))
    ImageDraw.Draw(filled).polygon([tuple(p) for p in points.tolist()], fill=1)
    assert (np.asarray(filled)[mask]).all()


some_masks = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31), st.sampled_from([0.1, 0.5, 0.9]))


@given(some_masks)
@settings(max_examples=200, deadline=None)
def test_both_draw_the_same(case):
    height, width, seed, density = case
    rle = encode_rle(torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < density)
    assert torch.equal(rle_outline(rle, backend="rust"), rle_outline(rle, backend="reference"))


@backends
@given(some_masks)
@settings(max_examples=60, deadline=None)
def test_a_part_has_everything_inside(backend, case):
    height, width, seed, density = case
    rle = encode_rle(torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < density * 0.2)
    mask = decode_rle(rle)
    part, left, top = rle_part(rle, backend=backend)
    again = torch.zeros_like(mask)
    again[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert torch.equal(again, mask)
    assert all(bool(edge.any()) for edge in (part[:1], part[-1:], part[:, :1], part[:, -1:])) or part.numel() == 0
    assert (part.numel() == 0) == (mask.sum() == 0)


@backends
@pytest.mark.parametrize("counts", [[6, 9, 5], [6, 4, 0, 5, 5], [6, 0, 0, 9, 5, 0], [0, 0, 6, 1, 0, 8, 5]])
def test_runs_that_go_on_into_the_next_column_and_runs_of_nothing(backend, counts):
    rle = {"size": [4, 5], "counts": counts}
    part, left, top = rle_part(rle, backend=backend)
    assert (left, top, part.tolist()) == (1, 0, [[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 0]])
    assert area(rle_outline(rle, backend=backend).numpy()) == 9


@backends
@pytest.mark.parametrize("call", [rle_outline, rle_part])
def test_damaged_runs_are_refused(backend, call):
    with pytest.raises(DataError, match="must sum to 2 x 3"):
        call({"size": [2, 3], "counts": [1]}, backend=backend)
