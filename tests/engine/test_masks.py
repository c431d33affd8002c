"""Masks in validation: true masks and mask AP are those of pycocotools, whatever the annotation looks like."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from helpers import shared
from mamba_yolo.data import open_dataset
from mamba_yolo.engine.coco import FIGURES
from mamba_yolo.engine.masks import masks_of_all, true_masks
from mamba_yolo.engine.matches import Truth
from mamba_yolo.engine.metrics import MaskPairs, evaluate
from mamba_yolo.engine.ranks import ALONE
from mamba_yolo.ops import encode_rle, rle_area

NAMES = {0: "a", 1: "b"}


def test_true_masks_equal_pycocotools_for_polygons_and_crowds(tmp_path):
    source = shared("data/eval-goldens/coco_val2014_100") / "instances_val2014_100.json"
    content = json.loads(source.read_text())
    for image in content["images"]:
        Image.new("1", (image["width"], image["height"])).save(tmp_path / image["file_name"], "PNG")
    (tmp_path / "val.json").write_text(source.read_text())
    dataset = open_dataset(tmp_path / "val.json", "val")
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(source))
    ids = {image["file_name"]: image["id"] for image in content["images"]}
    crowds = objects = 0
    for i, sample in enumerate(dataset):
        annotations = oracle.loadAnns(oracle.getAnnIds(ids[sample.path.name]))
        masks = true_masks(sample, dataset.image_size(i))
        assert masks.is_known.all()
        for annotation, rle, crowd in zip(annotations, masks.rles, sample.is_crowd, strict=True):
            assert crowd == bool(annotation["iscrowd"])
            assert rle["counts"] == oracle.annToRLE(annotation)["counts"].decode(), annotation["id"]
            crowds, objects = crowds + int(crowd), objects + 1
    assert crowds > 3
    assert objects > 600


def blob(rng, height=48, width=64):
    """A filled ellipse as a mask."""
    y, x = np.mgrid[:height, :width]
    cy, cx, a, b = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 20), rng.uniform(2, 14)
    return torch.from_numpy(((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1).to(torch.uint8)


def random_case(seed):
    """Truths, masks of them, detections and masks of them, on three images."""
    rng = np.random.default_rng(seed)
    truths, rows, pairs = [], [], MaskPairs([], [])
    for _ in range(3):
        masks = [m for m in (blob(rng) for _ in range(int(rng.integers(0, 6)))) if m.any()]
        found = [m.roll(int(rng.integers(-2, 3)), 1) for m in masks for _ in range(int(rng.integers(0, 3)))]
        found += [m for m in (blob(rng),) if m.any()]
        rles = [encode_rle(m) for m in masks]
        crowd = rng.random(len(masks)) < 0.2
        areas = np.array([rle_area(r) for r in rles], np.float64)
        truths.append(Truth(np.zeros((len(masks), 4), np.float32), rng.integers(0, 2, len(masks)), crowd, areas))
        scores = np.round(rng.random(len(found)), 1)
        kinds = rng.integers(0, 2, len(found))
        rows.append(np.c_[np.zeros((len(found), 4)), scores, kinds].astype(np.float32))
        pairs.true.append(rles)
        pairs.found.append([encode_rle(m) for m in found])
    return truths, rows, pairs


def by_pycocotools(truths, rows, pairs):
    annotations, results = [], []
    for i, (t, d) in enumerate(zip(truths, rows, strict=True)):
        for rle, c, crowd, area in zip(pairs.true[i], t.classes, t.is_crowd, t.areas, strict=True):
            box = coco_mask.toBbox(rle | {"counts": rle["counts"].encode()}).tolist()
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": int(c) + 1, "area": area,
                                "iscrowd": int(crowd), "segmentation": dict(rle), "bbox": box})  # fmt: skip
        for rle, row in zip(pairs.found[i], d, strict=True):
            results.append({"image_id": i + 1, "category_id": int(row[5]) + 1, "score": float(row[4]),
                            "segmentation": dict(rle)})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = {
            "images": [{"id": i + 1, "height": 48, "width": 64} for i in range(3)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        }
        index.createIndex()
        oracle = COCOeval(index, index.loadRes(results), "segm")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    return list(oracle.stats)


@pytest.mark.parametrize("seed", range(12))
def test_mask_figures_equal_pycocotools(seed):
    case = random_case(seed)
    metrics = evaluate(*case[:2], NAMES, case[2])
    assert [metrics.coco[name] for name in FIGURES] == pytest.approx(by_pycocotools(*case), abs=1e-12)


def test_an_object_with_a_box_only_counts_neither_way(tmp_path):
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[10:30, 10:30] = 1
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    rows = [{"id": 1, "bbox": [10, 10, 20, 20], "segmentation": encode_rle(mask)}, {"id": 2, "bbox": [40, 40, 20, 20]}]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}],
        "annotations": [row | {"image_id": 1, "category_id": 1, "iscrowd": 0} for row in rows],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(content))
    masks = true_masks(open_dataset(tmp_path / "val.json", "val")[0], (64, 64))
    assert masks.is_known.tolist() == [True, False]
    assert masks.rles[0] == encode_rle(mask)
    assert rle_area(masks.rles[1]) == 400


def test_masks_of_one_process_are_all():
    found = {3: [encode_rle(torch.ones(2, 2))], 1: []}
    assert masks_of_all(found, ALONE) is found
