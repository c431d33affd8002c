"""Slow oracles in float64: resizing, the warp of a canvas, HSV. The definitions of data.md 5 and 6, pixel by pixel."""

from __future__ import annotations

import colorsys

import numpy as np

GREY = 114


def resize(image, height, width):
    """Two taps, half-pixel centres, edges repeated; float result."""
    h, w = image.shape[:2]
    y = np.clip((np.arange(height) + 0.5) * h / height - 0.5, 0, h - 1)
    x = np.clip((np.arange(width) + 0.5) * w / width - 0.5, 0, w - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, h - 1), np.minimum(x0 + 1, w - 1)
    wy, wx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    im = image.astype(float)
    top = im[y0][:, x0] * (1 - wx) + im[y0][:, x1] * wx
    bottom = im[y1][:, x0] * (1 - wx) + im[y1][:, x1] * wx
    return top * (1 - wy) + bottom * wy


def letterbox(image, height, width, scale_up):
    """Planes of the letterboxed picture, float, and (gain, left, top)."""
    h, w = image.shape[:2]
    gain = min(height / h, width / w)
    gain = gain if scale_up else min(gain, 1)
    new_h, new_w = max(round(h * gain), 1), max(round(w * gain), 1)
    top, left = max(round((height - new_h) / 2 - 0.1), 0), max(round((width - new_w) / 2 - 0.1), 0)
    out = np.full((height, width, 3), float(GREY))
    out[top : top + new_h, left : left + new_w] = resize(image, new_h, new_w)
    return out.transpose(2, 0, 1), (gain, left, top)


def shift_hsv(rgb, hue, saturation, value):
    """One pixel through the standard library's HSV."""
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    return [255 * c for c in colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), min(v * value, 1))]
