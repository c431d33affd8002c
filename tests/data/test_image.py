"""Decoding against Pillow (libjpeg-turbo), on the hard images and on hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers import ROOT, shared
from mamba_yolo.data import ImageError, decode_image, image_size
from mamba_yolo.errors import MissingFileError

# Pillow reads these; we refuse them, and say why.
REFUSED = {
    "broken/subtract-with-overflow.jpg": "damaged JPEG",
    "exif/hopper_bad_exif.jpg": "cut short",  # a marker stops the scan at 72 %
    "jpeg/partial_progressive.jpg": "cut short",
    "other_formats/hopper.avif": "AVIF",
    "other_formats/hopper.qoi": "not a picture",
}
# Pillow refuses these; we read them: oversized text chunks and unknown metadata are not looked at.
READ = {"broken/png_decompression_dos.png", "broken/unknown_compression_method.png"}
# Orientation only in XMP is not looked for; Pillow clips 16-bit grey at 255 where we take the high byte.
OTHER_PIXELS = {
    "exif/xmp_tags_orientation.png",
    "other_formats/hopper_16bit.pgm",
    "jpeg_reference_png/grayscale_16x24_sampling2x2.png",
    "png/basi0g16.png",
    "png/basn0g16.png",
}


HARD = ROOT.parent / "shared/data/hard-images"


def hard_images():
    """(name, what Pillow says) of every file; a single skipped case where the folder is absent."""
    path = HARD / "expected_pillow.json"
    if not path.exists():
        return [pytest.param("", {}, marks=pytest.mark.skip("../shared/data/hard-images is not beside this checkout"))]
    return [pytest.param(name, facts, id=name) for name, facts in json.loads(path.read_text())["files"].items()]


def pillow(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize(("name", "facts"), hard_images())
def test_a_hard_image_equals_pillow_or_is_refused(name, facts):
    if facts["pillow"] == "error" and name not in READ:
        with pytest.raises(ImageError, match=re.escape(Path(name).name)):
            decode_image(HARD / name)
    elif name in REFUSED:
        with pytest.raises(ImageError, match=REFUSED[name]):
            decode_image(HARD / name)
    else:
        pixels = decode_image(HARD / name)
        assert image_size(HARD / name) == pixels.shape[:2]
        if name not in READ | OTHER_PIXELS:
            np.testing.assert_array_equal(pixels, pillow(HARD / name))


def test_orientations_give_one_picture_once_upright():
    root = shared("data/hard-images")
    first = decode_image(root / "exif/hopper_orientation_2.jpg").astype(int)
    for i in range(3, 9):
        other = decode_image(root / f"exif/hopper_orientation_{i}.jpg").astype(int)
        assert np.abs(other - first).mean() < 6, i  # each was compressed on its own; a wrong turn gives 50
    stored = decode_image(root / "exif/Landscape_6.jpg", exif="ignore")
    assert stored.shape == (1800, 1200, 3)
    assert decode_image(root / "exif/Landscape_6.jpg").shape == (1200, 1800, 3)


def test_coco_photographs_are_bit_equal_to_libjpeg_turbo():
    for path in sorted(shared("data/coco128/images/train2017").glob("*.jpg"))[::16]:
        np.testing.assert_array_equal(decode_image(path), pillow(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_in_every_format(kind, orientation):
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:8, :8], pixels[-8:, -8:] = (255, 0, 0), (0, 0, 255)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    options = {"tiffinfo": exif} if kind == "TIFF" else {"exif": exif, **({"lossless": True} if kind == "WEBP" else {})}
    image.save(stream, kind, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(stream.getvalue()))).convert("RGB"))
    np.testing.assert_array_equal(decode_image(stream.getvalue()), expected)


@pytest.mark.parametrize("most", [1, 100, 255, 1000, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_portable_maps(most, channels):
    levels = np.random.default_rng(4).integers(0, most + 1, (5, 7, channels))
    start = f"P{5 if channels == 1 else 6} # made by hand\n7\t5\n# twice\n{most}\n".encode()
    data = start + levels.astype(">u2" if most > 255 else "u1").tobytes()
    expected = levels >> 8 if most == 65535 else np.floor(levels * 255 / most + 0.5)
    np.testing.assert_array_equal(decode_image(data), np.broadcast_to(expected, (5, 7, 3)))
    with pytest.raises(ImageError, match="fewer pixels"):
        decode_image(data[:-1])
    with pytest.raises(ImageError, match=r"damaged PNM|ends"):
        decode_image(data[: len(start) - 8])


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000 is not read; convert it"),
        (b"\xff\x4f\xff\x51\x00", "JPEG 2000 is not read; convert it"),
        (b"\x00\x00\x00\x1cftypavif", "AVIF and HEIC are not read; convert it"),
        (b"\x00\x00\x00\x18ftypheic", "AVIF and HEIC are not read; convert it"),
        (b"qoif\x00\x00", "convert it to PNG"),
        (b"P5 7 5 0 ", "largest level"),
        (b"P6 7 x", "something else than numbers"),
    ],
)
def test_what_is_not_read_says_what_to_do(start, what):
    with pytest.raises(ImageError, match=what):
        decode_image(start + bytes(40))


MODES = {"BMP": "1 L P RGB", "TIFF": "1 L LA P RGB RGBA CMYK", "PNG": "1 L P RGB RGBA", "GIF": "1 L P RGB"}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()])
def test_colour_modes(kind, mode):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (7, 13, 3), np.uint8)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    expected = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(decode_image(stream.getvalue()), expected)


def tiff(order, bits, samples, palette=None):
    """A TIFF of one strip of (H, W) samples of up to 8 bits, packed, with a palette of (2^bits, 3) levels or grey."""
    height, width = samples.shape
    padded = np.pad(samples, [(0, 0), (0, -width % (8 // bits))])
    digits = np.unpackbits(padded[..., None], axis=-1)[..., 8 - bits :]
    strip = np.packbits(digits.reshape(height, -1), axis=1).tobytes()
    # width, height, bits per sample, compression, meaning, place of the strip, samples per pixel, its rows and bytes
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items()]
    end = 8 + len(strip)
    colours = b""
    if palette is not None:
        entries[4] = struct.pack(order + "HHIHH", 262, 3, 1, 3, 0)
        place = end + 2 + 12 * (len(entries) + 1) + 4
        entries.append(struct.pack(order + "HHII", 320, 3, palette.size, place))
        colours = (palette.T.astype(np.uint16) * 257).astype(order + "u2").tobytes()
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, end)
    return start + strip + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4) + colours


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_tiff_of_few_bits(order, bits):
    rng = np.random.default_rng(bits)
    samples = rng.integers(0, 2**bits, (5, 13), np.uint8)
    palette = rng.integers(0, 256, (2**bits, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(tiff(order, bits, samples, palette)), palette[samples])
    grey = samples * (255 // (2**bits - 1))
    np.testing.assert_array_equal(decode_image(tiff(order, bits, samples)), np.repeat(grey[..., None], 3, 2))
    if bits == 8:
        data = tiff(order, bits, samples, palette)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), palette[samples])
        short = data[:-2]  # of the palette
        with pytest.raises(ImageError, match="TIFF"):
            decode_image(short)


def jpeg(height=80, width=64, mode="RGB"):
    rng = np.random.default_rng(2)
    stream = io.BytesIO()
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def test_truncation_policy():
    whole = jpeg(320)
    np.testing.assert_array_equal(decode_image(whole[:-2]), decode_image(whole))
    nearly = decode_image(whole[: int(len(whole) * 0.97)])
    assert (nearly[-1] == 114).all()
    np.testing.assert_array_equal(nearly[:200], decode_image(whole)[:200])
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode_image(whole[: int(len(whole) * 0.97)], strict=True)
    with pytest.raises(ImageError, match=r"cut short|ends"):
        decode_image(whole[: len(whole) // 2])


def test_not_a_file(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageError, match=r"folder\.jpg: this is a folder"):
        decode_image(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        decode_image(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"none\.jpg: No such file"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(MissingFileError, match=r"none\.jpg"):
        image_size(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="empty"):
        decode_image(b"")
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(odd)).write_bytes(jpeg())
    assert decode_image(os.fsdecode(odd)).shape == (80, 64, 3)
    with pytest.raises(ValueError, match="exif must be"):
        decode_image(odd, exif="yes")


def bombs():
    """Tiny files whose headers ask for gigabytes."""
    png = png_with_size(65535, zlib.compress(bytes(100)))
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 65535, 65535, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    gif = (
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    )
    return [png, bmp, gif, with_size(jpeg(), b"\xff\xff\xff\xff"), with_size(jpeg(mode="CMYK"), b"\x08\x7f\xff\x1f")]


def png_with_size(side, data):
    """A PNG of 8 bits RGB whose header says `side` twice."""
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
    ihdr = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_size(data, size):
    """A JPEG whose frame header says another height and width; the second of `bombs` lies within the limit."""
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + size + data[frame + 9 :]


HOSTILE = """
import resource, sys, pickle
from mamba_yolo.data import decode_image, ImageError
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
count = 0
for data in pickle.load(sys.stdin.buffer):
    try:
        decode_image(data)
    except ImageError as error:
        assert str(error).startswith("<bytes>: "), error
        count += 1
print(count)
"""


def test_hostile_bytes_neither_crash_nor_hang_nor_eat_memory():
    rng = np.random.default_rng(3)
    cases = bombs()
    seeds = [jpeg()]
    for kind in ("PNG", "WEBP", "BMP", "TIFF", "GIF"):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(stream, kind)
        seeds.append(stream.getvalue())
    for seed in seeds:
        cases += [seed[:n] for n in (1, 2, 8, 12, 20, 40, 100, len(seed) // 2)]
        for _ in range(60):
            damaged = bytearray(seed)
            for at in rng.integers(2, len(seed), 4):
                damaged[at] = rng.integers(0, 256)
            cases.append(bytes(damaged))
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], input=pickle.dumps(cases), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert int(done.stdout) >= len(bombs())
    for bomb in bombs():
        with pytest.raises(ImageError, match=r"limit|damaged|cut"):
            decode_image(bomb)


def test_a_png_too_short_for_its_size_is_refused_and_the_emptiest_one_is_read():
    side = 3000
    data = zlib.compress(bytes(side * (1 + 3 * side)), 9)
    assert len(data) * 1040 > side * (1 + 3 * side)  # as much as deflate can do
    assert not decode_image(png_with_size(side, data)).any()
    with pytest.raises(ImageError, match="cut short"):
        decode_image(png_with_size(13_000, data))


def test_a_reason_is_one_line():
    stream = io.BytesIO()
    Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save(stream, "TIFF")
    for at in range(8, 200):
        for value in (0, 255):
            damaged = bytearray(stream.getvalue())
            damaged[at % len(damaged)] = value
            try:
                decode_image(bytes(damaged))
            except ImageError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017
