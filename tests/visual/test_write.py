"""Writing pictures."""

import numpy as np
import pytest
from PIL import Image

from mamba_yolo.errors import ConfigError
from mamba_yolo.visual.write import write_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def test_lossless_comes_back_and_nothing_else_is_left(tmp_path):
    path = write_picture(IMAGE, tmp_path / "deep" / "a.png")
    with Image.open(path) as picture:
        assert (np.asarray(picture) == IMAGE).all()
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".bmp", ".tif"])
def test_formats(tmp_path, suffix):
    with Image.open(write_picture(IMAGE, tmp_path / f"a{suffix}")) as picture:
        assert picture.size == (12, 8)


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'a\.doc'; use one of \.jpg"):
        write_picture(IMAGE, tmp_path / "a.doc")
