"""Small data sets made on the spot."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def yolo_set(tmp_path):
    """Six PNG pictures of different shapes with one or two boxes each, as YOLO; returns its data.yaml."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (40 + 13 * i, 90 - 7 * i, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{split}{i}.png")
            rows = ["0 0.5 0.5 0.6 0.4", "1 0.3 0.4 0.21 0.33"][: 1 + i % 2]
            (tmp_path / "labels" / split / f"{split}{i}.txt").write_text("\n".join(rows))
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return tmp_path / "data.yaml"
