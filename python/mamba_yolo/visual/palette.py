"""One colour per class, far apart for normal, red-blind and green-blind eyes.

Greedy farthest points among candidates in OKLCH; distance is the smallest Oklab distance over the three kinds of
sight (dichromat matrices: Machado, Oliveira, Fernandes 2009, severity 1). Test: tests/visual/test_palette.py.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

NUM_COLOURS = 96  # classes beyond this share colours
DICHROMAT_WEIGHT = 1.8  # their colour space is smaller: at equal weight most people would lose much for little
Floats = npt.NDArray[np.float64]

_LIGHTNESS = (0.52, 0.64, 0.76, 0.87)
_CHROMA = (0.10, 0.16, 0.22)
_NUM_HUES = 48
_FIRST_HUE_DEG = 255.0  # class 0 is a blue that stands out on skin, grass and concrete alike

_XYZ_LIKE_FROM_LINEAR = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB_FROM_ROOTS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_SIGHTS = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
)


def colour_of(class_index: int) -> tuple[int, int, int]:
    """RGB colour of a class, always the same; 96 colours, then again from the first."""
    red, green, blue = palette()[class_index % NUM_COLOURS]
    return int(red), int(green), int(blue)


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast on a colour (WCAG relative luminance)."""
    luminance = float(_linear_from_srgb(np.array(colour) / 255) @ (0.2126, 0.7152, 0.0722))
    white_contrast, black_contrast = 1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05
    return (255, 255, 255) if white_contrast >= black_contrast else (0, 0, 0)


@functools.cache
def palette() -> npt.NDArray[np.uint8]:
    """All class colours, (96, 3) uint8 RGB; each is as far as possible from all before it."""
    linear = _candidates()
    seen = np.stack([_oklab(np.clip(linear @ sight.T, 0, 1)) for sight in _SIGHTS])
    start = np.argmin(np.linalg.norm(seen[0] - _polar(0.64, 0.16, _FIRST_HUE_DEG), axis=1))
    chosen = [int(start)]
    nearest = np.full(len(linear), np.inf)
    while len(chosen) < NUM_COLOURS:
        apart = np.linalg.norm(seen - seen[:, chosen[-1:]], axis=2)
        distance = np.minimum(apart[0], DICHROMAT_WEIGHT * apart[1:].min(axis=0))
        nearest = np.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return np.rint(_srgb_from_linear(linear[chosen]) * 255).astype(np.uint8)


def _candidates() -> Floats:
    """Linear RGB of every lightness, chroma and hue that a screen can show."""
    hues = np.arange(_NUM_HUES) * 360 / _NUM_HUES
    lab = np.array([_polar(light, chroma, hue) for light in _LIGHTNESS for chroma in _CHROMA for hue in hues])
    roots = lab @ np.linalg.inv(_OKLAB_FROM_ROOTS).T
    linear: Floats = roots**3 @ np.linalg.inv(_XYZ_LIKE_FROM_LINEAR).T
    return linear[((linear >= 0) & (linear <= 1)).all(axis=1)]


def _polar(lightness: float, chroma: float, hue_deg: float) -> Floats:
    """Oklab from lightness, chroma and hue."""
    hue = np.deg2rad(hue_deg)
    return np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])


def _oklab(linear: Floats) -> Floats:
    """Oklab (Ottosson 2020) from linear RGB, last axis 3."""
    lab: Floats = np.cbrt(linear @ _XYZ_LIKE_FROM_LINEAR.T) @ _OKLAB_FROM_ROOTS.T
    return lab


def _linear_from_srgb(srgb: Floats) -> Floats:
    """Undo the sRGB curve."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb_from_linear(linear: Floats) -> Floats:
    """Apply the sRGB curve."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
