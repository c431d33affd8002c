"""Outlines of masks, against Pillow's polygon filling."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mamba_yolo.visual.outline import outline_of


def area(points):
    x, y = points.T.astype(float)
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def test_one_pixel():
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    assert set(map(tuple, outline_of(mask).tolist())) == {(3, 2), (4, 2), (4, 3), (3, 3)}


def test_empty_and_full():
    assert outline_of(np.zeros((4, 4), bool)).shape == (0, 2)
    assert area(outline_of(np.ones((4, 6), bool))) == 24


def test_the_largest_part_wins_and_holes_are_ignored():
    mask = np.zeros((20, 20), bool)
    mask[1:3, 1:3] = True
    mask[8:18, 8:18] = True
    mask[11:13, 11:13] = False
    assert area(outline_of(mask)) == 100


def test_parts_that_touch_at_a_corner_stay_apart():
    mask = np.zeros((6, 6), bool)
    mask[1:3, 1:3] = mask[3:5, 3:5] = True
    assert area(outline_of(mask)) == 4


@pytest.mark.parametrize("seed", range(5))
def test_area_equals_the_number_of_pixels(seed):
    """Rectangles through one point: one part without holes, however they lie."""
    numbers = np.random.default_rng(seed)
    mask = np.zeros((100, 100), bool)
    for _ in range(6):
        top, left = numbers.integers(0, 50, 2)
        bottom, right = numbers.integers(51, 101, 2)
        mask[top:bottom, left:right] = True
    points = outline_of(mask)
    assert area(points) == mask.sum()
    filled = Image.new("1", (100, 100))
    ImageDraw.Draw(filled).polygon([tuple(p) for p in points.tolist()], fill=1)
    assert (np.asarray(filled)[mask]).all()
