"""Pictures with boxes: places, moderate size, text that stays text, and life without the picture."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from mamba_yolo.visual.overlay import Mark, overlay

BOX = np.array([10, 20, 110, 220], np.float32)


def test_boxes_are_in_pixels_of_the_original():
    drawn = overlay(None, (480, 640), [Mark(BOX, "found", "cat 0.90")], 100)
    assert 'viewBox="0 0 640 480"' in drawn
    assert '<rect x="10.0" y="20.0" width="100.0" height="200.0"></rect>' in drawn
    assert "<image" not in drawn
    assert "<title>found: cat 0.90</title>" in drawn
    assert "</text>" not in drawn


def test_mistakes_carry_their_text_inside_the_picture():
    boxes = [BOX, np.array([0, 0, 640, 480]), np.array([600, 0, 640, 10]), np.array([600, 470, 640, 480])]
    for kind in ("missed", "false"):
        drawn = overlay(None, (480, 640), [Mark(b, kind, "<script>") for b in boxes], 100)
        assert "<script" not in drawn
        tops = [float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)"', drawn)]
        assert len(tops) == 4
        assert all(10 < top < 480 for top in tops)


def test_the_picture_is_made_smaller():
    image = np.random.default_rng(0).integers(0, 255, (300, 600, 3), np.uint8)
    drawn = overlay(image, (300, 600), [], 200)
    data = base64.b64decode(re.search(r'href="data:image/jpeg;base64,([^"]+)"', drawn)[1])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (200, 100)
