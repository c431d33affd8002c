"""Heat maps: order, scale, and what stays of the photograph."""

import numpy as np
import pytest

from mamba_yolo.visual.heat import FRAME_COLOUR, framed, heat, heat_over


def test_hotter_is_lighter():
    lightness = heat(np.linspace(0, 1, 256)[None]).astype(float)[0] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[0] < 10
    assert lightness[-1] > 230


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_largest_value_has_the_last_colour(scale):
    coloured = heat(np.array([[0.0, scale]], np.float64))
    assert coloured[0, 1].tolist() == [254, 250, 196]
    assert coloured[0, 0].tolist() == [4, 4, 16]


def test_nothing_is_black_and_leaves_the_photograph_grey():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert (heat(np.zeros((4, 5))) == (4, 4, 16)).all()
    over = heat_over(image, np.zeros((4, 5)))
    assert (over == over[..., :1]).all()
    assert over.std() > 10


def test_gamma_below_one_shows_what_is_faint():
    values = np.array([[0.01, 1.0]])
    assert heat(values, 1 / 3)[0, 0].sum() > heat(values)[0, 0].sum() + 50


def test_frames_stand_around_the_pixel():
    drawn = framed(np.zeros((40, 40, 3), np.uint8), [11], 22)
    ys, xs = np.nonzero((drawn == FRAME_COLOUR).all(axis=2))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (17, 27, 17, 27)
    assert (drawn[18:27, 18:27] == 0).all()
