"""The quick JPEG decoder equals libjpeg-turbo bit by bit, and leaves to the general one what it should."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import shared
from mamba_yolo.data import ImageError, decode_image


def encode(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def noisy(height, width, seed, smooth):
    """A picture between noise and a smooth gradient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 3 + y, y * 2, 255 - x - y], -1) % 256
    noise = rng.integers(0, 256, (height, width, 3))
    return np.where(rng.random((height, width, 1)) < smooth, ramp, noise).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(2, 70),  # a single row of 4:2:0 may differ by a level
    width=st.integers(1, 70),
    quality=st.sampled_from([1, 10, 50, 75, 90, 96, 100]),
    subsampling=st.sampled_from([0, 1, 2]),
    optimize=st.booleans(),
    smooth=st.sampled_from([0.0, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
def test_every_size_quality_and_subsampling_is_bit_equal(height, width, quality, subsampling, optimize, smooth, seed):
    pixels = noisy(height, width, seed, smooth)
    data = encode(pixels, quality=quality, subsampling=subsampling, optimize=optimize)
    np.testing.assert_array_equal(decode_image(data), pillow(data))


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"restart_marker_rows": 1}, {"keep_rgb": True}]
)
def test_other_kinds_go_to_the_general_decoder(options):
    data = encode(noisy(50, 61, 1, 0.5), quality=92, **options)
    np.testing.assert_array_equal(decode_image(data), pillow(data))


def test_all_coco_photographs_and_their_subsampled_copies():
    for path in sorted(shared("data/coco128/images/train2017").glob("*.jpg"))[::4]:
        data = path.read_bytes()
        np.testing.assert_array_equal(decode_image(data), pillow(data), err_msg=path.name)
        for subsampling in (1, 2):
            small = encode(pillow(data), quality=90, subsampling=subsampling)
            np.testing.assert_array_equal(decode_image(small), pillow(small), err_msg=path.name)


def test_damage_is_judged_by_the_general_decoder():
    """With the end marker gone or bits flipped, strict refuses or both give one picture: never a crash."""
    whole = encode(noisy(64, 64, 3, 0.5), quality=90)
    np.testing.assert_array_equal(decode_image(whole[:-2]), decode_image(whole))
    start = whole.index(b"\xff\xda") + 14
    rng = np.random.default_rng(0)
    same = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(start, len(whole) - 2)] ^= 1 << int(rng.integers(8))
        try:
            ours = decode_image(bytes(damaged))
        except ImageError:
            continue
        same += np.array_equal(ours, pillow(bytes(damaged)))
    assert same > 100


def test_headers_that_libjpeg_turbo_refuses_are_refused():
    """Found by fuzzing: a table number beyond the four, and a second frame."""
    whole = encode(noisy(16, 16, 3, 0.5), quality=90, subsampling=0)
    frame = whole.index(b"\xff\xc0")
    number = bytearray(whole)
    number[frame + 12] = 128
    twice = whole[: frame + 19] + whole[frame:]
    for data in (bytes(number), twice):
        with pytest.raises(ImageError, match="damaged JPEG"):
            decode_image(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_taken(progressive):
    """Found by fuzzing: 1 KB that promises 60 megapixels; every block takes a bit at least."""
    promise = bytearray(encode(noisy(16, 16, 3, 0.5), progressive=progressive))
    frame = promise.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    promise[frame + 5 : frame + 9] = (6000).to_bytes(2) + (10000).to_bytes(2)
    with pytest.raises(ImageError, match=r"at most \d % of it is there"):
        decode_image(bytes(promise))
    plain = encode(np.full((3000, 4000, 3), 90, np.uint8), progressive=progressive, optimize=True)
    assert decode_image(plain).shape == (3000, 4000, 3)
