"""Letterbox against the float64 oracle; boxes there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import reference
from mamba_yolo.data import letterbox

SHAPES = [(1, 1), (1, 100), (100, 1), (33, 77), (64, 64), (480, 640), (65, 63)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale_up", [True, False])
def test_pixels_equal_the_oracle_within_one_level(shape, scale_up):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    planes, place = letterbox(image, 64, 96, scale_up=scale_up)
    expected, expected_place = reference.letterbox(image, 64, 96, scale_up)
    assert place == pytest.approx(expected_place)
    assert np.abs(planes - expected).max() <= 1


def test_a_picture_of_the_same_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    planes, place = letterbox(image, 64, 96)
    np.testing.assert_array_equal(planes, image.transpose(2, 0, 1))
    assert place == (1.0, 0, 0)


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::2, ::3], np.s_[::-1, :, ::-1]])
def test_a_view_gives_what_its_copy_gives_and_stays_as_it_is(view):
    whole = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    before = whole.copy()
    planes, place = letterbox(whole[view], 64, 96)
    expected, expected_place = letterbox(np.ascontiguousarray(whole[view]), 64, 96)
    np.testing.assert_array_equal(planes, expected)
    assert place == expected_place
    np.testing.assert_array_equal(whole, before)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(1, 300), w=st.integers(1, 300), x=st.floats(0, 1), y=st.floats(0, 1), up=st.booleans())
def test_points_come_back(h, w, x, y, up):
    _, (gain, left, top) = letterbox(np.zeros((h, w, 3), np.uint8), 64, 64, scale_up=up)
    box_x, box_y = x * w * gain + left, y * h * gain + top
    assert -1 <= box_x <= 65
    assert -1 <= box_y <= 65
    assert (box_x - left) / gain == pytest.approx(x * w, abs=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="uint8"):
        letterbox(np.zeros((3, 4, 3), np.float32), 32, 32)
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        letterbox(np.zeros((3, 4, 4), np.uint8), 32, 32)
    with pytest.raises(ValueError, match="positive"):
        letterbox(np.zeros((3, 4, 3), np.uint8), 0, 32)
