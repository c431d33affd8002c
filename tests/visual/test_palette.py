"""Class colours: distinct, steady, and letters on them can be read."""

import itertools

import numpy as np
import pytest

from mamba_yolo.visual.palette import NUM_COLOURS, colour_of, ink_on, palette


def relative_luminance(colour):
    shares = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_all_colours_differ():
    assert len({tuple(c) for c in palette().tolist()}) == NUM_COLOURS
    assert colour_of(NUM_COLOURS) == colour_of(0)


def test_the_first_colours_are_far_apart():
    distances = [np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(palette()[:10].astype(int), 2)]
    assert min(distances) > 80


@pytest.mark.parametrize("sight", [(0.152286, 1.052583, -0.204868), (0.367322, 0.860646, -0.227968)])
def test_red_and_green_blind_eyes_see_the_first_colours_apart(sight):
    """For them, what is left is light and blue: two of the first eight may not agree in both."""
    linear = np.where(palette()[:8] <= 10, palette()[:8] / 255 / 12.92, ((palette()[:8] / 255 + 0.055) / 1.055) ** 2.4)
    seen = np.c_[np.cbrt(np.clip(linear @ sight, 0, 1)), np.cbrt(linear[:, 2])]
    distances = [np.abs(a - b).sum() for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 0.08


def test_ink_has_contrast_on_every_colour():
    for colour in map(tuple, palette().tolist()):
        light, dark = sorted([relative_luminance(colour), relative_luminance(ink_on(colour))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
