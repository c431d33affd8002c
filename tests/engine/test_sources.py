"""Every kind of source, and every way to get it wrong."""

import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from mamba_yolo.engine.sources import photos
from mamba_yolo.errors import ConfigError, ImageError, MissingFileError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.png", "c.bmp"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def names(source):
    return [photo.path.replace("\\", "/").rsplit("/", 1)[-1] for photo in photos(source)]


def png():
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PNG")
    return buffer.getvalue()


def test_paths(folder):
    assert names(folder / "a.png") == names(str(folder / "a.png")) == ["a.png"]
    assert names(folder) == ["a.png", "b.png", "c.bmp"]
    assert names(f"{folder}/*.png") == ["a.png", "b.png"]
    assert names(f"{folder}/*") == ["a.png", "b.png", "c.bmp"]
    assert names([folder / "c.bmp", str(folder / "a.png")]) == ["c.bmp", "a.png"]
    assert names(p for p in [folder / "b.png"]) == ["b.png"]


def test_a_list_file_counts_from_its_own_folder(folder):
    (folder / "list.txt").write_text(f"a.png\n\n{folder / 'c.bmp'}\n")
    assert names(folder / "list.txt") == ["a.png", "c.bmp"]


def test_glob_reaches_into_folders(folder):
    (folder / "deep").mkdir()
    Image.fromarray(IMAGE).save(folder / "deep" / "d.png")
    assert names(f"{folder}/**/*.png") == ["a.png", "b.png", "d.png"]


@pytest.mark.parametrize(
    "source",
    [
        IMAGE,
        IMAGE[:, ::-1][:, ::-1],
        Image.fromarray(IMAGE),
        png(),
        bytearray(png()),
        torch.from_numpy(IMAGE).permute(2, 0, 1),
        torch.from_numpy(IMAGE).permute(2, 0, 1) / 255,
        (torch.from_numpy(IMAGE).permute(2, 0, 1) / 255).double()[None],
    ],
    ids=["array", "strided", "pil", "bytes", "bytearray", "uint8-tensor", "float-tensor", "double-batch"],
)
def test_images_in_memory(source):
    (photo,) = photos(source)
    assert (photo.image == IMAGE).all()
    assert photo.image.flags.c_contiguous
    assert photo.path == "image0"


def test_mixed_lists_and_batches():
    batch = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert [p.path for p in photos([IMAGE, png(), [batch]])] == ["image0", "image1", "image2", "image3"]


def test_pil_images_are_turned_upright_and_made_rgb():
    upright = Image.new("L", (6, 4), 10)
    exif = upright.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", exif=exif)
    (photo,) = photos(Image.open(buffer))
    assert photo.image.shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nowhere.jpg", MissingFileError, r"nowhere\.jpg: no such file"),
        ("", MissingFileError, "the path is empty"),
        ("*.nothing", MissingFileError, "no image matches"),
        ("http://a/b.jpg", ConfigError, "download the file"),
        ([], ConfigError, "the list is empty"),
        (torch.zeros(0, 3, 8, 8), ConfigError, "the list is empty"),
        (3, ConfigError, "cannot predict on int"),
        ({"a": 1}, ConfigError, "cannot predict on dict"),
        (None, ConfigError, "cannot predict on NoneType"),
        (IMAGE[..., 0], ConfigError, r"\(H, W, 3\), RGB, got \(4, 6\)"),
        (np.zeros((4, 6, 4), np.uint8), ConfigError, r"got \(4, 6, 4\)"),
        (np.zeros((0, 6, 3), np.uint8), ConfigError, r"got \(0, 6, 3\)"),
        (IMAGE / 255, ConfigError, "must be uint8.*got float64"),
        (torch.zeros(8, 8, 3), ConfigError, r"\(3, H, W\).*got \(8, 8, 3\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), ConfigError, "got torch.int64"),
        (torch.full((3, 8, 8), 255.0), ConfigError, "divide by 255"),
        (torch.full((3, 8, 8), float("nan")), ConfigError, "must lie in 0..1"),
    ],
)
def test_wrong_sources_fail_at_once(source, error, words):
    with pytest.raises(error, match=words):
        photos(source)


def test_an_empty_folder_and_an_empty_list_file(tmp_path):
    with pytest.raises(ConfigError, match="no images in this folder"):
        photos(tmp_path)
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(ConfigError, match="no paths in this list"):
        photos(tmp_path / "l.txt")
    (tmp_path / "l.txt").write_text("gone.jpg")
    with pytest.raises(MissingFileError, match=r"l\.txt: names gone\.jpg"):
        photos(tmp_path / "l.txt")
    (tmp_path / "v.mp4").touch()
    with pytest.raises(ConfigError, match="videos are not read"):
        photos(tmp_path / "v.mp4")


def test_one_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        list(photos(tmp_path / "bad.jpg"))


def test_an_unreadable_file_among_others_is_skipped_and_counted(folder, caplog):
    (folder / "aa.jpg").write_bytes(b"not a picture")
    with caplog.at_level(logging.WARNING, "mamba_yolo"):
        assert names(folder) == ["a.png", "b.png", "c.bmp"]
    assert "aa.jpg" in caplog.messages[0]
    assert caplog.messages[-1] == "1 of 4 images could not be read and were skipped"


def test_not_one_readable_file_is_an_error(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError, match="none of the 2 images"):
        list(photos(tmp_path))
