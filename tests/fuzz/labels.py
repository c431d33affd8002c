"""Annotations: a data set whose boxes lie in their pictures or one of our errors; YOLO rows in Rust as in Python."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from fuzz.mutate import mutated
from mamba_yolo.data import labels as native_scan
from mamba_yolo.data import open_dataset
from mamba_yolo.data._native import native
from mamba_yolo.data.readers import yolo
from mamba_yolo.errors import MambaYoloError

FOLDER = Path(tempfile.mkdtemp())
CACHE = FOLDER / "cache"
os.environ["MAMBA_YOLO_CACHE"] = str(CACHE)
logging.disable(logging.WARNING)  # damaged caches are the point
WIDTH, HEIGHT = 53, 37

YAML = b"path: .\ntrain: images/train\nval: images/train\nnc: 3\nnames: {0: cat, 1: dog, 3: cow}\n"
ROWS = [
    b"",
    b"0 0.5 0.5 0.2 0.2\r\n1 .25 5e-1 +0.1 1E-1  \r\n",
    b"3 0.5 0.5 1.0000001 1.0000001\n0 -1e-7 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n",
    b"0 0.1 0.1 0.9 0.1 0.5 0.9\n1 -0.001 0.2 0.4 0.2 0.3 1.004 0.2 0.5\n",
    b"0 nan 0.5 0.2 0.2\n1.0 0.5 inf 0.2 0.2\n0,0.5,0.5,0.2,0.2\n1 1_0 0 0 0",
    b"".join(b"0 0.5 0.5 %f 0.2\n" % (k / 1000) for k in range(700, 999)),
]
COCO = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(3)],
    "categories": [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1.5, 2, 10, 20.25], "area": 9, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 90, "bbox": [0, 0, 9, 9], "segmentation": [[1, 1, 9, 1, 9, 9]]},
        {"id": 3, "image_id": 2, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 9, HEIGHT * WIDTH - 14]}},
    ],
}  # fmt: skip
VOC = b"""<annotation><filename>0.png</filename><size><width>53</width><height>37</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>30</ymax>
</bndbox></object></annotation>"""


def _pictures(folder):
    folder.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{i}.png")


for _kind in ("yolo/images/train", "coco/train", "voc/JPEGImages"):
    _pictures(FOLDER / _kind)
for _folder in ("yolo/labels/train", "voc/Annotations", "voc/ImageSets/Main"):
    (FOLDER / _folder).mkdir(parents=True)


def attempt(rng):
    rng.choice([_yolo, _yolo, _coco, _voc])(rng)


def _yolo(rng):
    path = FOLDER / "yolo/data.yaml"
    path.write_bytes(mutated(rng, [YAML]) if rng.random() < 0.3 else YAML)
    for i in range(3):
        (FOLDER / f"yolo/labels/train/{i}.txt").write_bytes(mutated(rng, ROWS))
    if rng.random() < 0.5:
        _damage_cache(rng)
    else:
        for file in CACHE.rglob("*.*"):
            file.unlink()
    found = _facts(path)
    with mock.patch.object(yolo, "scan", _all_odd):
        assert _facts(path) == found, "Rust and Python judge differently"
    assert _facts(path) == found, "the cache answers differently"


def _all_odd(*arguments):
    found = native_scan.scan(*arguments)
    readable = sorted(set(range(len(found.sizes))) - {i for i, _ in found.unreadable})
    return found._replace(odd=[(i, str(native.label_file(found.names[i]))) for i in readable])


def _damage_cache(rng):
    for file in CACHE.rglob("*.*"):
        file.write_bytes(mutated(rng, [file.read_bytes()]))


def _coco(rng):
    path = FOLDER / "coco/train/_annotations.coco.json"
    content = json.loads(json.dumps(COCO))
    for _ in range(rng.choice([0, 1, 2])):
        record = rng.choice(content[rng.choice(list(content))])
        record[rng.choice(list(record))] = rng.choice(
            [None, -1, 0, 2**70, 1e308, float("nan"), "x", [], {}, [1, 2], [[1, 2, 3]], True, ["a"] * 6, 7.5]
        )
    path.write_bytes(mutated(rng, [json.dumps(content).encode()]))
    _facts(path)


def _voc(rng):
    (FOLDER / "voc/ImageSets/Main/train.txt").write_bytes(mutated(rng, [b"0\n1\n2\n"]))
    for i in range(3):
        (FOLDER / f"voc/Annotations/{i}.xml").write_bytes(mutated(rng, [VOC]))
    _facts(FOLDER / "voc")


def _facts(path):
    """All that is known, comparable, and checked; or the words of the refusal."""
    try:
        dataset = open_dataset(path, "train")
    except MambaYoloError as error:
        return str(error)
    rows = []
    for i, sample in enumerate(dataset):
        height, width = dataset.image_size(i)
        x1, y1, x2, y2 = sample.boxes_xyxy.T
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
        assert all(0 <= c < len(dataset.names) for c in sample.classes.tolist())
        segments = None if sample.segments is None else [[p.tolist() for p in s] for s in sample.segments]
        arrays = (sample.boxes_xyxy.tobytes(), sample.classes.tolist(), sample.is_crowd.tolist())
        rows.append((sample.path, height, width, *arrays, repr(segments)))
    return dataset.names, dataset.problems, rows
