"""Converting keeps every bit of every box; checking finds what is wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from helpers import shared
from mamba_yolo.data import Loader, check_dataset, convert_dataset, open_dataset
from mamba_yolo.errors import DataError, MissingFileError

FORMATS = ("yolo", "coco", "voc")


def same(a, b):
    assert a.names == b.names
    assert [s.path.name for s in a] == [s.path.name for s in b]
    for x, y in zip(a, b, strict=True):
        assert x.boxes_xyxy.tobytes() == y.boxes_xyxy.tobytes(), x.path
        assert x.classes.tobytes() == y.classes.tobytes()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    root = tmp_path_factory.mktemp("converted")
    for to in FORMATS:
        convert_dataset(shared("data/bccd"), root / to, to, splits=("train", "val"))
    return root


@pytest.mark.parametrize("to", FORMATS)
def test_bccd_is_the_same_bits_in_every_format(converted, to):
    for split in ("train", "val"):
        result = open_dataset(converted / to, split)
        assert result.format == to
        assert result.problems == []
        same(open_dataset(shared("data/bccd"), split), result)


@pytest.mark.parametrize("train", [True, False])
def test_batches_are_the_same_bits_in_every_format(converted, train):
    def first(path):
        loader = Loader(open_dataset(path), imgsz=64, batch_size=8, train=train, threads=2)
        batches = itertools.islice(loader.epoch(1), 3)
        return [[t.numpy().tobytes() for i, t in enumerate(b) if t is not None] for b in batches]

    expected = first(shared("data/bccd"))
    for to in FORMATS:
        assert first(converted / to) == expected


def test_any_box_survives_any_chain_of_formats(tmp_path):
    """Sides that do not divide, boxes with fractions and at the very border."""
    rng = np.random.default_rng(0)
    (tmp_path / "a/images/train").mkdir(parents=True)
    (tmp_path / "a/labels/train").mkdir(parents=True)
    for i in range(12):
        width, height = (int(v) for v in rng.integers(3, 6000, 2))
        Image.new("L", (width, height)).save(tmp_path / f"a/images/train/{i}.png", compress_level=1)
        corners = np.sort(rng.random((40, 2, 2)) ** 3, axis=1)
        corners[0] = [[0, 0], [1, 1]]
        corners[1, 0, 0], corners[2, 1, 1] = 0, 1
        rows = [
            f"{rng.integers(0, 3)} {(a[0] + b[0]) / 2} {(a[1] + b[1]) / 2} {b[0] - a[0]} {b[1] - a[1]}"
            for a, b in corners
        ]
        (tmp_path / f"a/labels/train/{i}.txt").write_text("\n".join(rows))
    (tmp_path / "a/data.yaml").write_text("train: images/train\nnames: [x, y, z]\n")
    base = open_dataset(tmp_path / "a")
    assert sum(len(s.classes) for s in base) > 400
    source = tmp_path / "a"
    for k, to in enumerate(("coco", "voc", "yolo", "voc", "coco", "yolo")):
        target = tmp_path / f"step{k}"
        convert_dataset(source, target, to)
        same(base, open_dataset(target))
        source = target


def test_polygons_and_crowds(tmp_path):
    source = shared("data/coco128/annotations/instances_train2017.json")
    before = open_dataset(source)
    convert_dataset(source, tmp_path / "coco", "coco", splits=("train",))
    after = open_dataset(tmp_path / "coco")
    same(before, after)
    for a, b in zip(before, after, strict=True):
        assert a.is_crowd.tolist() == b.is_crowd.tolist()
        flat = lambda s: [p.tolist() for o in s.segments or [] for p in o]  # noqa: E731
        assert flat(a) == flat(b)
    convert_dataset(source, tmp_path / "yolo", "yolo", splits=("train",))
    as_yolo = open_dataset(tmp_path / "yolo")
    assert sum(len(s.classes) for s in as_yolo) in range(920, 930)
    assert any(s.segments for s in as_yolo)


def test_a_full_target_is_left_alone_and_a_crash_leaves_nothing(yolo_set, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        convert_dataset(yolo_set, tmp_path / "full", "coco")
    with pytest.raises(DataError, match="cannot convert to 'csv'"):
        convert_dataset(yolo_set, tmp_path / "new", "csv")
    with pytest.raises(MissingFileError, match="no such file"):
        convert_dataset(tmp_path / "none", tmp_path / "new", "coco")
    calls = []

    def fail(done, total):
        calls.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        convert_dataset(yolo_set, tmp_path / "new", "coco", progress=fail)
    assert calls[-1] == (4, 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_same_stems_are_refused(yolo_set, tmp_path):
    source = yolo_set.parent / "images/train"
    (source / "sub").mkdir()
    (source / "sub/train0.png").write_bytes((source / "train1.png").read_bytes())
    with pytest.raises(DataError, match="same name"):
        convert_dataset(yolo_set, tmp_path / "new", "voc")


def test_check_counts_and_finds_leaks_and_broken_files(yolo_set):
    root = yolo_set.parent
    clean = check_dataset(yolo_set)
    assert (clean.errors, clean.warnings, clean.format) == ([], [], "yolo")
    assert clean.splits["train"]["images"] == 6
    assert clean.splits["train"]["per_class"] == {"cat": 6, "dog": 3}
    (root / "images/val/copy.png").write_bytes((root / "images/train/train2.png").read_bytes())
    whole = (root / "images/train/train3.png").read_bytes()
    (root / "images/train/train3.png").write_bytes(whole[: len(whole) // 2])
    (root / "labels/train/train1.txt").write_text("9 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1")
    seen = []
    report = check_dataset(yolo_set, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert any("train3.png" in line for line in report.errors)
    assert any("class 9" in line for line in report.warnings)
    assert any("copy.png" in line and "train2.png" in line for line in report.warnings)
    assert report.to_dict()["splits"]["val"]["background"] == 1


def test_check_of_no_data_set(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        check_dataset(tmp_path / "none")
    assert "folder is empty" in check_dataset(tmp_path).errors[0]
