"""The native scan beside the reader in Python, which is its definition; and the cache file."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import shared
from mamba_yolo.data import labels as native_scan
from mamba_yolo.data import open_dataset
from mamba_yolo.data._native import native
from mamba_yolo.data.readers import yolo


def facts(dataset):
    """All that is known, comparable."""
    rows = []
    for i, s in enumerate(dataset):
        segments = None if s.segments is None else [[p.tolist() for p in polygons] for polygons in s.segments]
        arrays = (s.boxes_xyxy.tobytes(), s.boxes_xyxy.shape, s.classes.tolist(), s.is_crowd.tolist())
        rows.append((s.path, dataset.image_size(i), *arrays, segments))
    return dataset.names, dataset.problems, rows


def by_python(path, monkeypatch):
    """The data set with every label file judged in Python."""

    def all_odd(*args):
        found = native_scan.scan(*args)
        readable = sorted(set(range(len(found.sizes))) - {i for i, _ in found.unreadable})
        return found._replace(odd=[(i, str(native.label_file(found.names[i]))) for i in readable])

    with monkeypatch.context() as patched:
        patched.setattr(yolo, "scan", all_odd)
        return open_dataset(path)


HOSTILE = [
    b"",
    b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n",
    b"0 0.5 0.5 0.2 0.2\r\n1 .25 5e-1 +0.1 1E-1  \r\n",
    b"0 0.5 0.5 0.2 0.2\r1 0.3 0.3 0.1 0.1",
    b"0 nan 0.5 0.2 0.2\n0 0.5 inf 0.2 0.2\n",
    b"0 1_0 0.5 0.2 0.2\n",
    b"3.0 0.5 0.5 0.2 0.2\n1.0 0.5 0.5 0.2 0.2\n1.5 0.5 0.5 0.2 0.2\n",
    b"7 0.5 0.5 0.2 0.2\n-1 0.5 0.5 0.2 0.2\n-0 0.5 0.5 0.1 0.1\n",
    b"0 0.5 0.5 1.0000001 1.0000001\n0 -1e-7 0.5 0.2 0.2\n",
    b"0 0.5 0.5 0 0.2\n0 1.5 0.5 0.2 0.2\n0 0.5 0.5 -0.2 0.2\n",
    b"0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n",
    b"0,0.5,0.5,0.2,0.2\n",
    b"0 0.5 0.5 0.2\n0 0.1 0.1 0.2 0.2 0.3\n",
    b"0 0.1 0.1 0.9 0.1 0.5 0.9\n1 -0.001 0.2 0.4 0.2 0.3 1.004 0.2 0.5\n",
    b"0 0.1 0.1 0.9 0.1 0.5 0.9\n0 0.5 0.5 0.2 0.2\n",
    b"0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.9 0.1 0.5 0.9\n",
    b"\xff\xfe\x00bad",
    b"0 0.5 0.5 0.2 0.2\x0b1 0.5 0.5 0.2 0.2\n",
    b"0 1e400 0.5 0.2 0.2\n1e300 0.5 0.5 0.2 0.2\n",
    "0 0.5 0.5 0.2 \uff10.2\n".encode(),
    b"\n\n  \n\t0\t0.5 0.5 0.2 0.2\n",
    b"".join(b"0 0.5 0.5 %f 0.2\n" % (k / 1000) for k in range(1, 999)),
]


def hostile_set(folder, texts):
    (folder / "images/train").mkdir(parents=True)
    (folder / "labels/train").mkdir(parents=True)
    for i, text in enumerate(texts):
        Image.fromarray(np.zeros((37 + i, 53, 3), np.uint8)).save(folder / f"images/train/{i:03}.png")
        (folder / f"labels/train/{i:03}.txt").write_bytes(text)
    (folder / "images/train/bad.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "images/train/000.bmp")
    (folder / "labels/train/orphan.txt").write_text("0 0.5 0.5 0.2 0.2")
    (folder / "labels/train/folder.txt").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "images/train/folder.png")
    os.mkfifo(folder / "labels/train/pipe.txt")  # would wait for a writer
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "images/train/pipe.png")
    (folder / "data.yaml").write_text("train: images/train\nnames: {0: cat, 1: dog, 3: cow}\n")
    return folder / "data.yaml"


def test_hostile_files_are_judged_as_in_python(tmp_path, monkeypatch):
    path = hostile_set(tmp_path, HOSTILE)
    expected = facts(by_python(path, monkeypatch))
    assert len(expected[1]) > 20
    assert facts(open_dataset(path)) == expected
    (tmp_path / "data.yaml").write_text("train: images/train\n")  # classes by their numbers
    assert facts(open_dataset(path)) == facts(by_python(path, monkeypatch))


number = st.one_of(
    st.floats(-0.02, 1.02).map(repr),
    st.sampled_from(["0", "1", "0.5", "-0.0", "1e-3", ".5", "5.", "nan", "1e999", "x", "+.25", "0x1", "1__0"]),
)
row = st.lists(number, min_size=3, max_size=9).map(" ".join)
text = st.lists(st.one_of(row, st.tuples(number, number, number, number).map(lambda n: "1 " + " ".join(n))), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(text, min_size=1, max_size=6))
def test_any_rows_are_judged_as_in_python(tmp_path_factory, monkeypatch, files):
    path = hostile_set(tmp_path_factory.mktemp("set"), ["\n".join(lines).encode() for lines in files])
    (path.parent / "labels/train/good.txt").write_text("0 0.5 0.5 0.25 0.25")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path.parent / "images/train/good.png")
    assert facts(open_dataset(path)) == facts(by_python(path, monkeypatch))


def test_coco128_is_read_alike(monkeypatch):
    for name in ("coco128_detect.yaml", "coco128.yaml"):
        path = shared("data/coco128") / name
        if path.exists():
            assert facts(open_dataset(path)) == facts(by_python(path, monkeypatch))


def cached(path, monkeypatch):
    """The data set, and how many pictures came from the cache."""
    seen = []
    with monkeypatch.context() as patched:
        patched.setattr(yolo, "scan", lambda *args: seen.append(native_scan.scan(*args)) or seen[-1])
        dataset = open_dataset(path)
    return facts(dataset), seen[0].num_cached


def test_the_cache_answers_until_a_file_changes(tmp_path, monkeypatch, cache_folder):
    path = hostile_set(tmp_path, HOSTILE)
    first, count = cached(path, monkeypatch)
    assert count == 0
    assert cached(path, monkeypatch) == (first, len(HOSTILE) + 4)
    changed = tmp_path / "labels/train/000.txt"
    changed.write_text("1 0.5 0.5 0.5 0.5")
    second, count = cached(path, monkeypatch)
    assert count == len(HOSTILE) + 2  # 000.png and 000.bmp share the file
    assert second != first
    assert cached(path, monkeypatch) == (second, len(HOSTILE) + 4)
    os.utime(changed, ns=(5, 5))
    assert cached(path, monkeypatch) == (second, len(HOSTILE) + 2)
    (tmp_path / "labels/train/001.txt").unlink()
    assert cached(path, monkeypatch)[1] == len(HOSTILE) + 3
    path.write_text("train: images/train\nnames: [cat]\n")  # other classes: nothing can be taken over
    assert cached(path, monkeypatch)[1] == 0
    assert list(tmp_path.rglob("*.labels")) == []
    assert len(list((cache_folder / "labels").iterdir())) == 1


def test_a_damaged_cache_is_made_anew_with_a_note(yolo_set, monkeypatch, cache_folder, caplog):
    first, _ = cached(yolo_set, monkeypatch)
    [file] = (cache_folder / "labels").iterdir()
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", whole[:-1], whole[: len(whole) // 2], b"MYLABEL\x01" + whole[8:]]
    flips = rng.integers(0, len(whole), 20)
    damages += [whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :] for at in flips]
    for damaged in damages:
        file.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "mamba_yolo"):
            assert cached(yolo_set, monkeypatch) == (first, 0)
        assert "damaged, made anew" in caplog.text
        assert file.read_bytes() == whole


@pytest.mark.parametrize("obstacle", ["file", "unwritable"])
def test_without_a_cache_folder_all_is_read_each_time(yolo_set, monkeypatch, tmp_path, obstacle):
    first, _ = cached(yolo_set, monkeypatch)
    (tmp_path / "file").write_text("")
    place = "/proc/mamba-yolo" if obstacle == "unwritable" else str(tmp_path / "file")
    monkeypatch.setenv("MAMBA_YOLO_CACHE", place)
    assert cached(yolo_set, monkeypatch) == (first, 0)
    assert cached(yolo_set, monkeypatch) == (first, 0)
