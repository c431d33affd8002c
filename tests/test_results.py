"""Results, Boxes, Masks: the attributes others look for."""

import json
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from mamba_yolo.errors import ConfigError, MissingPackageError
from mamba_yolo.ops import decode_rle, encode_rle
from mamba_yolo.results import Boxes, Masks, Results

NAMES = {0: "cat", 1: "dog"}
ROWS = [[10, 20, 30, 60, 0.9, 1], [0, 0, 5.5, 5, 0.25, 0]]


def make(rows=ROWS, shape=(80, 100), **extra):
    image = np.full((*shape, 3), 90, np.uint8)
    return Results("a.jpg", NAMES, shape, Boxes(rows, shape), orig_image=image, **extra)


def with_masks():
    masks = np.zeros((2, 80, 100), np.uint8)
    masks[0, 20:60, 10:30] = 1
    masks[1, 0:5, 0:5] = 1
    return make(masks=Masks(masks, (80, 100)))


def test_boxes_in_every_form():
    boxes = make().boxes
    assert boxes.xyxy.tolist() == [[10, 20, 30, 60], [0, 0, 5.5, 5]]
    assert boxes.xywh[0].tolist() == [20, 40, 20, 40]
    assert boxes.xyxyn[0].tolist() == pytest.approx([0.1, 0.25, 0.3, 0.75])
    assert boxes.xywhn[0].tolist() == pytest.approx([0.2, 0.5, 0.2, 0.5])
    assert boxes.conf.tolist() == pytest.approx([0.9, 0.25])
    assert boxes.cls.tolist() == [1, 0]
    assert boxes.id is None


def test_iteration_and_indexing_keep_the_kind():
    results = with_masks()
    assert len(results) == len(results.boxes) == len(results.masks) == 2
    assert [r.boxes.conf.item() for r in results] == pytest.approx([0.9, 0.25])
    assert [len(b) for b in results.boxes] == [1, 1]
    assert results[-1].boxes.cls.tolist() == [0]
    assert results[results.boxes.conf > 0.5].masks.data.shape == (1, 80, 100)
    assert len(results[0:0]) == 0
    with pytest.raises(IndexError, match="index 2 is out of range for 2 objects"):
        results[2]


def test_nothing_found_is_a_result():
    results = make([])
    assert len(results) == 0
    assert results.boxes.xywh.shape == (0, 4)
    assert results.summary() == []
    assert json.loads(results.to_json()) == []
    assert (results.plot() == results.orig_image).all()
    assert results.verbose() == "a.jpg 100x80: nothing found"


def test_json_comes_back_as_the_same_boxes():
    rows = json.loads(make().to_json())
    assert [row["name"] for row in rows] == ["dog", "cat"]
    back = [[*row["box"].values(), row["confidence"], row["class"]] for row in rows]
    assert torch.allclose(torch.tensor(back), torch.tensor(ROWS), atol=1e-5)


def test_summary_has_outlines_and_track_numbers():
    results = with_masks()
    results.boxes.id = torch.tensor([7, 8])
    row = results.summary()[0]
    assert row["track_id"] == 7
    assert set(zip(row["segments"]["x"], row["segments"]["y"], strict=True)) == {(10, 20), (30, 20), (30, 60), (10, 60)}


def test_masks_are_kept_as_run_lengths_and_come_back_as_pixels():
    rng = np.random.default_rng(0)
    pixels = rng.random((3, 80, 100)) < 0.3
    pixels[1] = False
    masks = Masks(pixels, (80, 100))
    assert masks.data.dtype == torch.uint8
    assert (masks.data.numpy() == pixels).all()
    assert (masks[[2, 0]].data.numpy() == pixels[[2, 0]]).all()
    assert masks.coco() == masks.rles
    assert coco.area([r | {"counts": r["counts"].encode()} for r in masks.rles]).tolist() == pixels.sum((1, 2)).tolist()
    assert len(Masks(np.zeros((0, 80, 100)), (80, 100)).data) == 0


def test_smaller_masks_cover_the_image():
    small = torch.zeros(10, 20, dtype=torch.uint8)
    small[2:5, 4:15] = 1
    masks = Masks.from_rles([encode_rle(small)], (10, 20), (30, 50))
    assert masks.data.shape == (1, 10, 20)
    assert masks.xy[0].tolist() == [[10, 6], [37.5, 6], [37.5, 15], [10, 15]]
    (whole,) = (decode_rle(rle) for rle in masks.coco())
    expected = torch.nn.functional.interpolate(small[None, None].float(), size=(30, 50), mode="nearest-exact")[0, 0]
    assert torch.equal(whole, expected.byte())
    drawn = make(rows=ROWS[:1], shape=(30, 50), masks=masks).plot()
    assert drawn.shape == (30, 50, 3)
    assert len(masks[0:0].coco()) == 0


def test_coco_results_are_what_pycocotools_reads():
    rows = json.loads(json.dumps(with_masks().to_coco(17)))
    assert [row["category_id"] for row in rows] == [1, 0]
    assert rows[0]["bbox"] == [10, 20, 20, 40]
    assert {row["image_id"] for row in rows} == {17}
    assert rows[0]["segmentation"]["size"] == [80, 100]
    assert [coco.area(r["segmentation"]) for r in rows] == [800, 25]
    assert "segmentation" not in make().to_coco("a")[0]
    assert make([]).to_coco(1) == []


def test_plot_leaves_the_image_alone_and_save_writes_it(tmp_path):
    results = make()
    before = results.orig_image.copy()
    drawn = results.plot()
    assert (results.orig_image == before).all()
    assert (drawn != before).any()
    assert results.save(tmp_path / "new" / "a.png").stat().st_size > 0
    with pytest.raises(ConfigError, match=r"'a\.xyz'"):
        results.save(tmp_path / "a.xyz")


def test_plot_without_an_image_says_so():
    with pytest.raises(ConfigError, match=r"a\.jpg: .*no image to draw on"):
        Results("a.jpg", NAMES, (8, 8), Boxes([], (8, 8))).plot()


def test_wrong_shapes_are_named():
    with pytest.raises(ConfigError, match=r"\(N, 6\).*got \(2, 5\)"):
        Boxes(torch.zeros(2, 5), (8, 8))
    with pytest.raises(ConfigError, match=r"\(N, 8, 9\), got \(1, 4, 4\)"):
        Masks(torch.zeros(1, 4, 4), (8, 9))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
class TestSupervision:
    def test_detections_from_results(self):
        sv = pytest.importorskip("supervision")
        detections = sv.Detections.from_ultralytics(with_masks())
        assert detections.xyxy.tolist() == [[10, 20, 30, 60], [0, 0, 5.5, 5]]
        assert detections.confidence.tolist() == pytest.approx([0.9, 0.25])
        assert detections.class_id.tolist() == [1, 0]
        assert detections.data["class_name"].tolist() == ["dog", "cat"]
        assert detections.mask.shape == (2, 80, 100)
        assert detections.mask[0].sum() == 40 * 20

    def test_to_supervision_with_and_without_objects(self):
        pytest.importorskip("supervision")
        assert len(make().to_supervision()) == 2
        assert len(make([]).to_supervision()) == 0

    def test_annotators_take_it(self):
        sv = pytest.importorskip("supervision")
        results = make()
        drawn = sv.BoxAnnotator().annotate(results.orig_image.copy(), results.to_supervision())
        assert (drawn != results.orig_image).any()


def test_missing_supervision_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackageError, match=r"mamba-yolo\[supervision\]"):
        make().to_supervision()
