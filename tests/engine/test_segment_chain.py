"""One set of masks through val, predict, its COCO file and pictures: the same figures from each, and pycocotools'."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine.test_predict import CONFIG, NAMES, FindsTheBrightDisc, disc
from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.engine.coco import FIGURES
from mamba_yolo.engine.pictures import draw_found
from mamba_yolo.engine.predict import predict, save_results
from mamba_yolo.engine.validate import validate
from mamba_yolo.ops import decode_rle, encode_rle

SIDE = 320
DISCS = {  # (side, centre, radius) of the picture; how far its annotation is off, and what is odd about it
    "exact": ((320, (150, 170), 60), 0, ""),
    "shifted": ((480, (200, 260), 80), 14, ""),
    "far": ((200, (90, 110), 50), 30, ""),
    "hole": ((640, (300, 320), 120), 0, "hole"),
    "cut": ((320, (15, 160), 50), 0, ""),
    "crowd": ((320, (160, 160), 70), 0, "crowd"),
    "overlap": ((320, (160, 160), 70), 0, "overlap"),
    "empty": ((320, (160, 160), 0), 0, "empty"),
}


class Discs(FindsTheBrightDisc):
    def __init__(self):
        super().__init__()
        self.config = dataclasses.replace(self.config, task="segment")


def annotations_of(number, inside, shift, what):
    """COCO rows of one picture."""
    masks = [np.roll(inside, shift, axis=1)]
    if what == "hole":
        ys, xs = np.nonzero(inside)
        masks[0][int(ys.mean()) - 30 : int(ys.mean()) + 30, int(xs.mean()) - 30 : int(xs.mean()) + 30] = False
    if what == "overlap":
        masks.append(np.roll(inside, 40, axis=0))
    rows = []
    for mask in masks if what != "empty" else ():
        ys, xs = np.nonzero(mask)
        box = [int(v) for v in (xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min())]
        rle, crowd = encode_rle(torch.from_numpy(mask)), int(what == "crowd")
        rows.append({"image_id": number, "category_id": 1, "bbox": box, "area": int(mask.sum()), "iscrowd": crowd,
                     "segmentation": rle})  # fmt: skip
    return rows


@pytest.fixture
def annotations(tmp_path):
    """The annotation file of pictures with a bright disc each."""
    images, rows = [], []
    for number, ((side, centre, radius), shift, what) in enumerate(DISCS.values(), 1):
        pixels, inside = disc(side, side, centre, radius)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": side, "width": side})
        rows += annotations_of(number, inside, shift, what)
    rows = [row | {"id": i} for i, row in enumerate(rows, 1)]
    categories = [{"id": i, "name": name} for i, name in NAMES.items()]
    file = tmp_path / "val.json"
    file.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return file


def measured(annotations, rect=False, watch=None):
    dataset = open_dataset(annotations, "val")
    return validate(Discs(), Loader(dataset, SIDE, 3, train=False, masks=True, rect=rect), watch=watch)


def by_pycocotools(annotations, results, kind):
    if kind == "segm":  # a box would be measured in place of the mask, where sizes are told apart
        results = [{key: value for key, value in row.items() if key != "bbox"} for row in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        oracle = COCOeval(truth, truth.loadRes(results), kind)
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    return list(oracle.stats)


def test_val_and_the_coco_file_of_predict_give_pycocotools_figures(annotations, tmp_path):
    config = dataclasses.replace(CONFIG, imgsz=SIDE, conf=0.001, save_json=True, save=False, retina_masks=True)
    paths = [str(tmp_path / f"{number}.png") for number in range(1, len(DISCS) + 1)]
    list(save_results(predict(Discs(), NAMES, paths, config), tmp_path, config))
    metrics, results = measured(annotations), json.loads((tmp_path / "coco.json").read_text())
    for kind, figures in (("bbox", metrics), ("segm", metrics.seg)):
        expected = by_pycocotools(annotations, results, kind)
        assert [figures.coco[name] for name in FIGURES] == pytest.approx(expected, abs=1e-9)
        assert 0.2 < figures.map50_95 < figures.map50 < 1
    assert metrics.map50_95 != metrics.seg.map50_95
    assert measured(annotations, rect=True).seg.coco == metrics.seg.coco


def test_masks_of_the_first_batch_are_shown_where_the_network_sees_them(annotations):
    seen = []
    measured(annotations, watch=lambda *found: seen.append(found))
    ((batch, rows, masks),) = seen
    assert [len(r) for r in rows] == [len(m) for m in masks] == [1, 1, 1]
    for image, (rle,) in zip(batch.images, masks, strict=True):
        bright, found = image.float().mean(0) > 140, decode_rle(rle).bool()
        assert (bright & found).sum() / (bright | found).sum() > 0.95
    names = {0: "", 1: ""}
    sheets = [draw_found(batch, rows, shown, names).astype(int) for shown in (None, masks)]
    tinted = np.abs(sheets[1] - sheets[0]).max(-1) > 20  # more than the rings of the enlargement
    area = sum(int(decode_rle(rle).sum()) for (rle,) in masks) * (480 / SIDE) ** 2
    assert tinted.sum() == pytest.approx(area, rel=0.05)
    faint = [r * [1, 1, 1, 1, 0.1, 1] for r in rows]
    assert not (draw_found(batch, faint, masks, names) - draw_found(batch, faint, None, names)).any()
