"""Heat maps: values as colours, alone or over a photograph. Test: tests/visual/test_heat.py.

Legend: H W pixels; pictures are uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating]

# From black over violet, red and orange to pale yellow: each step is lighter than the one before, so that the order
# of values survives grey printers and every kind of colour sight.
RAMP = np.array(
    [
        (4, 4, 16),
        (38, 18, 84),
        (88, 22, 118),
        (142, 36, 110),
        (194, 58, 84),
        (232, 94, 52),
        (250, 146, 28),
        (252, 204, 76),
        (254, 250, 196),
    ],
    np.float64,
)
GREY_SHARE = 0.6  # of a photograph's brightness that stays where a map is zero
FRAME_COLOUR = (120, 220, 255)


def heat(values: Floats, gamma: float = 1.0) -> Picture:
    """Colours of a map: black at zero, pale yellow at its largest value.

    Args:
        values: (H, W), not negative; a map of zeros is black.
        gamma: exponent on values in 0..1; below 1 shows what is faint.
    """
    levels = _scaled(values) ** gamma * (len(RAMP) - 1)
    below = np.minimum(levels.astype(int), len(RAMP) - 2)
    part = (levels - below)[..., None]
    coloured: Picture = np.rint(RAMP[below] * (1 - part) + RAMP[below + 1] * part).astype(np.uint8)
    return coloured


def heat_over(image: Picture, values: Floats, gamma: float = 1.0) -> Picture:
    """A photograph in grey with a map in colour over it; the hotter, the more opaque.

    Args:
        image: uint8 (H, W, 3) RGB.
        values: (H, W), not negative.
        gamma: as in `heat`.
    """
    opacity = (_scaled(values) ** gamma)[..., None]
    grey = GREY_SHARE * image.mean(axis=2, keepdims=True) + np.zeros(3)
    blended: Picture = np.rint(grey * (1 - opacity) + heat(values, gamma) * opacity).astype(np.uint8)
    return blended


def framed(picture: Picture, sides: Sequence[int], centre: int) -> Picture:
    """Squares of the given sides in pixels around the pixel in that row and column, on a copy."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    height, width = picture.shape[:2]
    line = max(1, round(0.004 * (height + width) / 2))
    for side in sides:
        half = side // 2
        pen.rectangle((centre - half, centre - half, centre + half, centre + half), outline=FRAME_COLOUR, width=line)
    return np.array(canvas)


def _scaled(values: Floats) -> npt.NDArray[np.float64]:
    """Values in 0..1 by the largest."""
    largest = float(values.max())
    return np.asarray(values, np.float64) / largest if largest > 0 else np.zeros(values.shape)
