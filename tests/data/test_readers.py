"""Every format is recognised; every fault is in the table with its place and what was done."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import shared
from mamba_yolo.data import open_dataset
from mamba_yolo.data.readers import yolo
from mamba_yolo.errors import DataError, MissingFileError


def picture(path, width=100, height=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 9, 9)).save(path)
    return path


def yolo_with(tmp_path, text, names="[a, b]"):
    """A data set of one 100x50 picture with these label bytes."""
    picture(tmp_path / "images/train/one.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/one.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    return tmp_path / "data.yaml"


GOOD = "0 0.5 0.5 0.2 0.4\n"


@pytest.mark.parametrize(
    ("row", "what", "done"),
    [
        ("0 nan 0.5 0.1 0.1", "NaN", "dropped"),
        ("0 0.5 inf 0.1 0.1", "infinite", "dropped"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not among the 2", "dropped"),
        ("-1 0.5 0.5 0.1 0.1", "class -1", "dropped"),
        ("0.5 0.5 0.5 0.1 0.1", "not a whole number", "dropped"),
        ("0,0.5,0.5,0.1,0.1", "commas", "dropped"),
        ("0 0.5 0.5 0.1", "4 columns", "dropped"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 columns", "dropped"),
        ("cat 0.5 0.5 0.1 0.1", "not a number", "dropped"),
        ("0 0.5 0.5 0 0.1", "no area", "dropped"),
        ("0 0.5 0.5 -0.1 0.1", "no area", "dropped"),
        ("0 1.5 0.5 0.1 0.1", "outside", "dropped"),
        ("0 1.0 0.5 0.2 0.1", "beyond", "clipped"),
        (GOOD.strip(), "twice", "kept once"),
    ],
)
def test_bad_rows_are_reported_with_their_line(tmp_path, row, what, done):
    dataset = open_dataset(yolo_with(tmp_path, GOOD + row))
    [problem] = dataset.problems
    assert (problem.path, problem.where) == (str(tmp_path / "labels/train/one.txt"), "2")
    assert what in problem.what
    assert done in problem.done
    assert len(dataset[0].classes) == (2 if done == "clipped" else 1)
    assert "one.txt:2: " in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf0 0.5 0.5 0.2 0.4",
        b"0 0.5 0.5 0.2 0.4\r\n\r\n",
        b"  0\t0.5 0.5 2e-1 4E-1   \n",
        b"0.0 0.5 0.5 0.2 0.4\n",
    ],
)
def test_harmless_writing_is_read_silently(tmp_path, text):
    dataset = open_dataset(yolo_with(tmp_path, text))
    assert dataset.problems == []
    assert dataset[0].boxes_xyxy.tolist() == [[40, 15, 60, 35]]


def test_rounding_beyond_the_border_is_clipped_silently(tmp_path):
    dataset = open_dataset(yolo_with(tmp_path, "0 0.5 0.5 1.0000002 1.0000001\n1 0.04999995 0.5 0.1 1"))
    assert dataset.problems == []
    assert dataset[0].boxes_xyxy[0].tolist() == [0, 0, 100, 50]
    assert dataset[0].boxes_xyxy[1, 0] == 0


def test_polygons_and_mixed_rows(tmp_path):
    dataset = open_dataset(yolo_with(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n" + GOOD))
    [problem] = dataset.problems
    assert "box rows among polygon rows" in problem.what
    sample = dataset[0]
    assert sample.boxes_xyxy[0].tolist() == [10, 10, 50, 40]
    assert [len(s) for s in sample.segments] == [1, 0]
    assert sample.segments[0][0].tolist() == [[10, 10], [50, 10], [50, 40]]


def test_label_and_picture_faults(tmp_path):
    path = yolo_with(tmp_path, GOOD)
    picture(tmp_path / "images/train/background.jpg")
    picture(tmp_path / "images/train/empty.png")
    (tmp_path / "labels/train/empty.txt").write_text("")
    (tmp_path / "labels/train/orphan.txt").write_text(GOOD)
    picture(tmp_path / "images/train/one.jpg")
    (tmp_path / "images/train/broken.png").write_bytes(b"no picture")
    (tmp_path / "images/train/folder.jpg").mkdir()
    (tmp_path / "images/train/binary.png").write_bytes((tmp_path / "images/train/empty.png").read_bytes())
    (tmp_path / "labels/train/binary.txt").write_bytes(b"\xff\xfe\x00")
    dataset = open_dataset(path)
    assert [s.path.name for s in dataset] == ["background.jpg", "binary.png", "empty.png", "one.jpg", "one.png"]
    table = {p.path.rsplit("/", 1)[1]: p for p in dataset.problems}
    assert set(table) == {"orphan.txt", "one.png", "broken.png", "folder.jpg", "binary.txt"}
    assert "without a picture" in table["orphan.txt"].what
    assert "shares its name" in table["one.png"].what
    assert "left out" in table["broken.png"].done
    assert "UTF-8" in table["binary.txt"].what


def test_yaml_variants(tmp_path):
    path = yolo_with(tmp_path, GOOD)
    for text in (
        "path: .\ntrain: ../images/train\nnames: {0: a, 1: b}\nnc: 2\ndownload: import os; os.abort()\n",
        "path: /nowhere\ntrain: [images/train]\nnames: [a, b]\n",
        "train: list.txt\nnames: [a, b]\n",
        "train: images\\train\nnames: [a, b]\n",
    ):
        (tmp_path / "list.txt").write_text("images/train/one.png\r\n")
        path.write_text(text)
        assert open_dataset(path).names == {0: "a", 1: "b"}
        assert open_dataset(path)[0].classes.tolist() == [0]
    path.write_text("train: images/train\nnames: {1: a, 90: z}\n")
    (tmp_path / "labels/train/one.txt").write_text("90 0.5 0.5 0.2 0.4\n")
    assert open_dataset(path).names == {0: "a", 1: "z"}
    assert open_dataset(path)[0].classes.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("train: [", "not valid YAML"),
        ("just text", "expected keys"),
        ("val: images/train\nnames: [a]", "no entry for the split 'train'; it has val"),
        ("train: images/none\nnames: [a]", "does not exist"),
        ("train: images/train\nnames: [a]\nnc: 3", "nc is 3 but there are 1 names"),
        ("train: images/train\nnames: 7", "names must be"),
        ("train: !!python/object/apply:os.abort []\nnames: [a]", "not valid YAML"),
    ],
)
def test_bad_yaml(tmp_path, text, match):
    path = yolo_with(tmp_path, GOOD)
    path.write_text(text)
    with pytest.raises((DataError, MissingFileError), match=match):
        open_dataset(path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        open_dataset(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="folder is empty"):
        open_dataset(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match="no data set of split"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="not a data set"):
        open_dataset(tmp_path / "a.csv")
    path = yolo_with(tmp_path, "")
    with pytest.raises(DataError, match="not a single label"):
        open_dataset(path)
    (tmp_path / "images/train/one.png").unlink()
    with pytest.raises(DataError, match="has no pictures"):
        open_dataset(path)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 99), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_written_row_is_parsed_to_the_same_numbers(class_id, numbers):
    assert yolo._parse(f"{class_id} " + " ".join(map(repr, numbers))) == (class_id, numbers)


def test_roboflow_and_plain_folders(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / f"coco/{split}/a.jpg")
        content = {
            "images": [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 50}],
            "categories": [{"id": 0, "name": "things", "supercategory": "none"}]
            + [{"id": i, "name": n, "supercategory": "things"} for i, n in ((1, "a"), (2, "b"))],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 2, "bbox": [10, 10, 20, 20]}],
        }
        (tmp_path / f"coco/{split}/_annotations.coco.json").write_text(json.dumps(content))
        picture(tmp_path / f"voc/{split}/a.jpg")
        xml = "<annotation><object><name>b</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>30</ymax>"
        (tmp_path / f"voc/{split}/a.xml").write_text(xml + "</bndbox></object></annotation>")
        picture(tmp_path / f"yolo/{split}/images/a.jpg")
        (tmp_path / f"yolo/{split}/labels").mkdir()
        (tmp_path / f"yolo/{split}/labels/a.txt").write_text("1 0.2 0.4 0.2 0.4")
        (tmp_path / "yolo/data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [a, b]\n")
        picture(tmp_path / f"plain/images/{split}/a.jpg")
        (tmp_path / f"plain/labels/{split}").mkdir(parents=True)
        (tmp_path / f"plain/labels/{split}/a.txt").write_text("1 0.2 0.4 0.2 0.4")
    for kind, format in (("coco", "coco"), ("voc", "voc"), ("yolo", "yolo"), ("plain", "yolo")):
        for split in ("train", "val", "valid"):
            dataset = open_dataset(tmp_path / kind, split)
            assert dataset.format == format
            np.testing.assert_allclose(dataset[0].boxes_xyxy, [[10, 10, 30, 30]], atol=1e-4)
            assert dataset.problems == []
    assert open_dataset(tmp_path / "coco/train/_annotations.coco.json").names == {0: "a", 1: "b"}


def coco_with(tmp_path, annotations, **image):
    picture(tmp_path / "images/train/a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50, **image}],
        "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": "c"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 90, "bbox": [0, 0, 10, 10]}, *annotations],
    }
    (tmp_path / "annotations").mkdir(exist_ok=True)
    path = tmp_path / "annotations/instances_train.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"image_id": 8, "category_id": 90, "bbox": [0, 0, 5, 5]}, "belongs to no picture"),
        ({"image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5]}, "category 4"),
        ({"image_id": 7, "category_id": 90, "bbox": [0, 0, 5]}, "four numbers"),
        ({"image_id": 7, "category_id": 90, "bbox": [0, 0, 0, 5]}, "no area"),
        ({"image_id": 7, "category_id": 90, "bbox": [0, float("nan"), 5, 5]}, "finite"),
        ({"image_id": 7, "category_id": 90}, "four numbers"),
        ({"image_id": {}, "category_id": 90, "bbox": [0, 0, 5, 5]}, "belongs to no picture"),
        ({"image_id": 7, "category_id": [90], "bbox": [0, 0, 5, 5]}, "category [90]"),
        ({"image_id": 7, "category_id": 90, "bbox": [0, 0, 10**400, 5]}, "too large"),
        ({"image_id": 7, "category_id": 90, "bbox": [0, 0, 5, 5], "segmentation": [["a"] * 6]}, "not a number"),
    ],
)
def test_bad_coco_annotations(tmp_path, record, what):
    dataset = open_dataset(coco_with(tmp_path, [{"id": 55, **record}]))
    [problem] = dataset.problems
    assert problem.where == "annotation 55"
    assert what in problem.what
    assert dataset[0].classes.tolist() == [1]
    assert dataset.names == {0: "c", 1: "z"}


def test_coco_details(tmp_path):
    crowd = {
        "id": 2,
        "image_id": 7,
        "category_id": 3,
        "bbox": [1, 1, 5, 5],
        "iscrowd": 1,
        "segmentation": {"counts": []},
    }
    polygon = {"id": 3, "image_id": 7, "category_id": 3, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 5, 1, 5, 5]]}
    path = coco_with(tmp_path, [crowd, polygon], width=50, height=100)
    dataset = open_dataset(path)
    assert dataset[0].is_crowd.tolist() == [False, True, False]
    assert [len(s) for s in dataset[0].segments] == [0, 0, 1]
    assert dataset[0].boxes_xyxy[2].tolist() == [1, 1, 10, 10]
    assert dataset.problems[0].done == "kept its box alone"
    assert "says 50x100" in dataset.problems[1].what
    with pytest.raises(DataError, match="holds the split 'train'"):
        open_dataset(path, "val")
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        open_dataset(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not COCO"):
        open_dataset(path)


def test_voc_faults(tmp_path):
    shutil.copytree(shared("data/bccd/ImageSets"), tmp_path / "ImageSets")
    (tmp_path / "ImageSets/Main").chmod(0o755)
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\nmissing\nc\nd\n")
    for stem in "abcd":
        picture(tmp_path / f"JPEGImages/{stem}.jpg")
    (tmp_path / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    good = f"<object><name>x</name>{box}</object>"
    size = "<size><width>50</width><height>100</height></size>"
    bad = "<object><name>x</name></object><object><name/><bndbox/></object>"
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{size}{good}{bad}</annotation>")
    (tmp_path / "Annotations/b.xml").write_text("<annotation>")
    bomb = '<!DOCTYPE z [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    (tmp_path / "Annotations/c.xml").write_text(f"{bomb}<annotation>&b;{good}</annotation>")
    dataset = open_dataset(tmp_path)
    assert [s.path.stem for s in dataset] == ["a", "b", "c", "d"]
    assert [len(s.classes) for s in dataset] == [1, 0, 0, 0]
    assert dataset[0].boxes_xyxy.tolist() == [[1, 2, 30, 40]]
    what = [p.what for p in dataset.problems]
    expected = ("no such picture", "says 50x100", "no bndbox", "class ''", "not valid XML", "document type")
    for part, line in zip(expected, what, strict=True):
        assert part in line
    with pytest.raises(DataError, match="no ImageSets/Main/extra"):
        open_dataset(tmp_path, "extra")


def test_the_shared_sets():
    bccd = open_dataset(shared("data/bccd"), "val")
    assert (len(bccd), bccd.names) == (87, {0: "Platelets", 1: "RBC", 2: "WBC"})
    assert bccd.image_size(0) == (480, 640)
    coco = open_dataset(shared("data/coco128/annotations/instances_train2017.json"))
    yolo_set = open_dataset(shared("data/coco128/coco128_detect.yaml"))
    assert [s.path for s in coco] == [s.path for s in yolo_set]
    assert sum(len(s.classes) for s in yolo_set) == 929
    assert sum(int((~s.is_crowd).sum()) for s in coco) == 929
    for a, b in zip(coco, yolo_set, strict=True):
        boxes = a.boxes_xyxy[~a.is_crowd]
        far = np.abs(boxes[:, None] - b.boxes_xyxy[None]).max(2).min(1, initial=0 if len(boxes) == 0 else np.inf)
        assert (far < 0.01).all(), a.path
    assert [len(open_dataset(shared("data/nuclei"), s)) for s in ("train", "val")] == [210, 54]
