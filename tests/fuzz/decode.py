"""Pictures: one of the size that the header says or an `ImageError`; the quick JPEG decoder as the general one."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.mutate import mutated
from mamba_yolo.data import ImageError, decode_image, image_size

FILE = Path(tempfile.mkdtemp()) / "picture"
# Restart interval 0: means nothing, but is left to the general JPEG decoder.
NO_RESTARTS = b"\xff\xdd\x00\x04\x00\x00"


def encoded(kind, mode="RGB", size=(31, 22), quiet=3, **options):
    """A picture that gets noisier from top to bottom."""
    rng = np.random.default_rng(len(mode) + size[0])
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    noise = rng.integers(0, 256, (size[1], size[0], 3)) * y[..., None] // (quiet * size[1])
    pixels = (np.stack([5 * x, 7 * y, 255 - x - y], -1) + noise).astype(np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif():
    tags = Image.Exif()
    tags[274] = 6
    return tags


JPEGS = [
    *(encoded("JPEG", quality=q, subsampling=s, optimize=q > 80) for s in (0, 1, 2) for q in (30, 95)),
    encoded("JPEG", size=(9, 70), quality=100, subsampling=2, quiet=1),
    encoded("JPEG", quality=90, exif=exif()),
    encoded("JPEG", progressive=True),
    encoded("JPEG", restart_marker_blocks=2),
    encoded("JPEG", keep_rgb=True),
    encoded("JPEG", "L"),
    encoded("JPEG", "CMYK"),
]
OTHERS = [
    *(encoded("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    encoded("PNG", exif=exif()),
    *(encoded("WEBP", mode, lossless=lossless) for lossless in (True, False) for mode in ("RGB", "RGBA")),
    *(encoded("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(encoded("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")),
    *(encoded("TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
    *(encoded("GIF", mode) for mode in ("L", "P")),
    *(encoded("PPM", mode) for mode in ("1", "L", "RGB", "I;16")),
]


def decoded(data, **options):
    """The picture, or none where it is refused."""
    try:
        pixels = decode_image(data, **options)
    except ImageError as error:
        assert "\n" not in str(error), error  # noqa: PT017
        return None
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    assert pixels.size > 0
    return pixels


def attempt(rng):
    data = mutated(rng, JPEGS if rng.random() < 0.5 else OTHERS)
    pixels = decoded(data)
    strict = decoded(data, strict=True)
    if pixels is None:
        assert strict is None, "only strict reads it"
        return
    assert strict is None or np.array_equal(pixels, strict), "strict gives another picture"
    if rng.random() < 0.1:
        FILE.write_bytes(data)
        assert image_size(FILE) == pixels.shape[:2]
        assert np.array_equal(decode_image(FILE), pixels)
    if data.startswith(b"\xff\xd8"):
        general = decoded(data[:2] + NO_RESTARTS + data[2:])
        assert general is not None, "only the quick decoder reads it"
        assert np.array_equal(general, pixels), "the quick decoder gives another picture"
