"""Prediction with a detector that finds the bright rectangle of an image: boxes must come back to its own pixels."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mamba_yolo.config import DetectorConfig, PredictConfig
from mamba_yolo.engine.coco import evaluate_coco
from mamba_yolo.engine.predict import predict, save_results
from mamba_yolo.errors import MissingFileError, SaveError
from mamba_yolo.models import build_detector
from mamba_yolo.ops import decode_rle, encode_rle
from mamba_yolo.types import RawDetections

NAMES = {0: "dark", 1: "bright"}
NUM_BINS, STRIDES = 16, (8, 16, 32)


class Seen(list):
    """One list for a detector and its folded copy."""

    def __deepcopy__(self, memo):
        return self


class FindsTheBrightRectangle(torch.nn.Module):
    """Writes, into the one cell of the coarsest level at the rectangle's centre, the distances to its sides."""

    def __init__(self):
        super().__init__()
        self.config = DetectorConfig(num_classes=2)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shapes = Seen()

    def forward(self, images):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.shapes.append(tuple(images.shape))
        levels = [torch.full((len(images), 66, images.shape[2] // s, images.shape[3] // s), -20.0) for s in STRIDES]
        for image, level in zip(images, levels[2], strict=True):
            rows, columns = np.nonzero((image.mean(0) > 0.9).numpy())
            if len(rows) == 0:
                continue
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / STRIDES[2]
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            level[65, y, x] = 3.0
            for side, distance in enumerate((x + 0.5 - box[0], y + 0.5 - box[1], box[2] - x - 0.5, box[3] - y - 0.5)):
                whole, part = int(distance), distance - int(distance)
                bins = level[NUM_BINS * side : NUM_BINS * (side + 1), y, x]
                bins[whole], bins[whole + 1] = np.log(max(1 - part, 1e-9)), np.log(max(part, 1e-9))
        return RawDetections(levels)


def photo(height, width, box):
    image = np.full((height, width, 3), 40, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


CONFIG = PredictConfig(imgsz=320)
BOX = (40, 30, 120, 100)


@pytest.mark.parametrize(("height", "width"), [(200, 300), (300, 200), (160, 160), (640, 480), (101, 977)])
def test_boxes_are_in_pixels_of_the_image(height, width):
    (result,) = predict(FindsTheBrightRectangle(), NAMES, photo(height, width, BOX), CONFIG)
    tolerance = 1.5 * max(1, max(height, width) / 320)
    assert result.orig_shape == (height, width)
    assert result.boxes.xyxy[0].tolist() == pytest.approx(BOX, abs=tolerance)
    assert result.boxes.cls.tolist() == [1]
    assert result.boxes.conf.item() == pytest.approx(torch.tensor(3.0).sigmoid().item())
    assert set(result.speed) == {"preprocess", "inference", "postprocess"}


def test_the_input_is_the_smallest_rectangle_for_one_shape_and_a_square_for_several():
    detector = FindsTheBrightRectangle()
    list(predict(detector, NAMES, [photo(200, 300, BOX)] * 2, dataclasses.replace(CONFIG, batch=2)))
    results = list(
        predict(detector, NAMES, [photo(200, 300, BOX), photo(300, 200, BOX)], dataclasses.replace(CONFIG, batch=2))
    )
    assert detector.shapes == [(2, 3, 224, 320), (2, 3, 320, 320)]
    for result in results:
        assert result.boxes.xyxy[0].tolist() == pytest.approx(BOX, abs=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (10, 1000)])
def test_extreme_shapes(shape):
    (result,) = predict(build_detector("n", 2), NAMES, np.zeros((*shape, 3), np.uint8), PredictConfig(imgsz=64, conf=0))
    height, width = shape
    boxes = result.boxes.xyxy
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_options_reach_nms():
    detector, image = FindsTheBrightRectangle(), photo(200, 300, BOX)

    def count(**options):
        return len(next(predict(detector, NAMES, image, dataclasses.replace(CONFIG, **options))))

    assert count() == 1
    assert count(conf=0.99) == 0
    assert count(max_det=0) == 0
    assert count(classes=(0,)) == 0
    assert count(classes=(1,)) == 1


def test_results_come_one_batch_at_a_time():
    detector = FindsTheBrightRectangle()
    results = predict(detector, NAMES, [photo(64, 64, (0, 0, 9, 9))] * 5, dataclasses.replace(CONFIG, batch=2))
    next(results)
    assert len(detector.shapes) == 1
    assert len(list(results)) == 4
    assert [s[0] for s in detector.shapes] == [2, 2, 1]


def test_wrong_sources_fail_before_the_first_result():
    with pytest.raises(MissingFileError, match=r"gone\.jpg"):
        predict(FindsTheBrightRectangle(), NAMES, "gone.jpg", CONFIG)


def test_the_same_twice():
    detector, image = build_detector("n", 2), np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    config = PredictConfig(imgsz=64, conf=0)
    first, second = (next(predict(detector, NAMES, image, config)).boxes.data for _ in range(2))
    assert len(first)
    assert torch.equal(first, second)


def test_masks_of_a_segmentation_model_fill_the_boxes_only():
    detector = build_detector("t-seg", 2)
    (result,) = predict(detector, NAMES, photo(60, 90, BOX), PredictConfig(imgsz=64, conf=0, max_det=5))
    assert result.masks.data.shape == (len(result), 60, 90)
    for mask, (x1, y1, x2, y2) in zip(result.masks.data, result.boxes.xyxy.tolist(), strict=True):
        ys, xs = np.nonzero(mask.numpy())
        assert ((xs + 1 > x1) & (xs < x2) & (ys + 1 > y1) & (ys < y2)).all()


class FindsTheBrightDisc(FindsTheBrightRectangle):
    """Finds the box as above; its mask is where the picture is bright, by one prototype."""

    def forward(self, images):
        raw = super().forward(images)
        protos = torch.zeros(len(images), 32, images.shape[2] // 4, images.shape[3] // 4)
        protos[:, 3] = torch.nn.functional.avg_pool2d(images.mean(1), 4) - 0.55
        coefs = torch.zeros(len(images), 32, sum(level[0, 0].numel() for level in raw.levels))
        coefs[:, 3] = 8.0
        return RawDetections(raw.levels, coefs, protos)


def disc(height, width, centre, radius):
    y, x = np.ogrid[:height, :width]
    inside = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) < radius
    image = np.full((height, width, 3), 40, np.uint8)
    image[inside] = 255
    return image, inside


@pytest.mark.parametrize("shape", [(400, 600), (640, 320), (200, 200), (1200, 1800)])
@pytest.mark.parametrize("retina", [True, False])
def test_masks_come_back_to_the_pixels_of_the_image(shape, retina):
    height, width = shape
    image, inside = disc(height, width, (width * 0.45, height * 0.55), min(shape) / 4)
    config = dataclasses.replace(CONFIG, retina_masks=retina)
    (result,) = predict(FindsTheBrightDisc(), NAMES, image, config)
    gain = 320 / max(shape)
    size = shape if retina or gain > 1 else (round(height * gain), round(width * gain))
    assert result.masks.data.shape == (1, *size)
    (found,) = (decode_rle(rle).bool().numpy() for rle in result.masks.coco())
    assert found.shape == shape
    assert (found & inside).sum() / (found | inside).sum() > 0.95
    points = result.masks.xy[0]
    assert points.min(0) == pytest.approx(
        [np.nonzero(inside.any(0))[0][0], np.nonzero(inside.any(1))[0][0]], abs=4 / gain
    )
    assert points.max(0) == pytest.approx(np.argwhere(inside.T).max(0), abs=4 / gain)


def test_masks_of_large_photographs_take_no_memory_until_they_are_asked_for():
    """300 masks of 12 million pixels would be 3.6 GB."""
    image, _ = disc(3000, 4000, (2000, 1500), 700)
    (result,) = predict(FindsTheBrightDisc(), NAMES, image, CONFIG)
    many = result[[0] * 300]
    assert sum(len(rle["counts"]) for rle in many.masks.rles) < 10e6
    assert len(many.summary()) == len(many.to_coco(1)) == 300


def test_save_writes_pictures_and_json(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(photo(100, 150, BOX)).save(tmp_path / folder / "a.png")
    config = dataclasses.replace(CONFIG, save_json=True)
    results = predict(FindsTheBrightRectangle(), NAMES, f"{tmp_path}/*/a.png", config)
    target = tmp_path / "out"
    target.mkdir()
    assert len(list(save_results(results, target, config))) == 2
    assert sorted(p.name for p in target.iterdir()) == ["a.jpg", "a_2.jpg", "coco.json", "predictions.json"]
    rows = json.loads((target / "predictions.json").read_text())
    assert [row["objects"][0]["name"] for row in rows] == ["bright", "bright"]
    assert (rows[0]["height"], rows[0]["width"]) == (100, 150)
    assert [row["image_id"] for row in json.loads((target / "coco.json").read_text())] == ["a", "a"]


def test_coco_results_of_masks_are_scored_by_the_evaluator(tmp_path):
    image, inside = disc(300, 400, (180, 140), 60)
    Image.fromarray(image).save(tmp_path / "000042.png")
    config = dataclasses.replace(CONFIG, save_json=True, save=False)
    list(save_results(predict(FindsTheBrightDisc(), NAMES, f"{tmp_path}/000042.png", config), tmp_path, config))
    results = json.loads((tmp_path / "coco.json").read_text())
    assert [row["image_id"] for row in results] == [42]
    rle, area = encode_rle(torch.from_numpy(inside)), int(inside.sum())
    object_ = {"id": 1, "image_id": 42, "category_id": 1, "bbox": [120, 80, 120, 120], "segmentation": rle}
    truth = {
        "images": [{"id": 42, "height": 300, "width": 400}],
        "annotations": [object_ | {"area": area, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "bright"}],
    }
    assert evaluate_coco(truth, results, "segm").summary["AP"] > 0.95


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    results = predict(FindsTheBrightRectangle(), NAMES, photo(64, 64, BOX), CONFIG)
    with pytest.raises(SaveError, match=r"cannot write .*image0\.jpg"):
        list(save_results(results, tmp_path / "file", CONFIG))
