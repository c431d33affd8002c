"""Precision, recall, F1 and confusion come from the evaluator's own matches; checked against COCO and VOC figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import shared
from mamba_yolo.engine.coco import evaluate_coco
from mamba_yolo.engine.matches import CONFIDENCES, CROWD, Truth, match_image
from mamba_yolo.engine.metrics import _coco_results, _coco_truth, evaluate, truth_of
from mamba_yolo.errors import TrainingError
from mamba_yolo.types import Sample


def truth(boxes, classes, crowd=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool)
    return truth_of(Sample("x", boxes, np.asarray(classes, np.int64), None, crowd))


def rows(*values):
    return np.asarray(values, np.float32).reshape(-1, 6)


def random_images(seed, nc=3, num_images=6):
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(num_images):
        n = int(rng.integers(0, 7))
        corner, size = rng.uniform(0, 60, (n, 2)), rng.uniform(4, 60, (n, 2))
        boxes, classes = np.c_[corner, corner + size].astype(np.float32), rng.integers(0, nc, n)
        truths.append(truth(boxes, classes, rng.random(n) < 0.15))
        pick = rng.integers(0, max(n, 1), 3 * n)
        noisy = boxes[pick] + rng.normal(0, 4, (3 * n, 4)).astype(np.float32)
        noisy[:, 2:] = np.maximum(noisy[:, 2:], noisy[:, :2] + 1)
        other = np.where(rng.random(3 * n) < 0.8, classes[pick], rng.integers(0, nc, 3 * n))
        detections.append(np.c_[noisy, np.round(rng.random(3 * n), 1), other].astype(np.float32))
    return truths, detections


def ap50_from_matches(truths, detections, c):
    """101-point AP of one class, written out from the matches: independent of the evaluator's own accumulation."""
    figures = evaluate_coco(_coco_truth(truths, 3), _coco_results(detections))
    scores, hits, positives = [], [], 0
    for i, (t, d) in enumerate(zip(truths, detections, strict=True)):
        m = match_image(i + 1, t, d, figures)
        keep = (d[m.rows, 5] == c) & (m.found != CROWD)
        scores += d[m.rows[keep], 4].tolist()
        hits += (m.found[keep] >= 0).tolist()
        positives += int(((t.classes == c) & ~t.is_crowd).sum())
    if not positives:
        return -1.0
    true = np.cumsum(np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")])
    precision, recall = true / np.arange(1, len(true) + 1), true / positives
    return float(np.mean([max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize("seed", range(25))
def test_ap50_recomputed_from_the_matches_is_the_evaluators(seed):
    truths, detections = random_images(seed)
    metrics = evaluate(truths, detections, {0: "a", 1: "b", 2: "c"})
    for c in range(3):
        assert metrics.per_class[c].ap50 == pytest.approx(ap50_from_matches(truths, detections, c), abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_confusion_matrix_adds_up(seed):
    truths, detections = random_images(seed)
    m = evaluate(truths, detections, {0: "a", 1: "b", 2: "c"})
    columns = [sum(int(((t.classes == c) & ~t.is_crowd).sum()) for t in truths) for c in range(3)]
    assert m.confusion[:, :3].sum(axis=0).tolist() == columns
    assert m.confusion[3, 3] == 0
    for c, row in enumerate(m.per_class):
        if row.instances:
            assert m.confusion[c, c] / row.instances == pytest.approx(row.recall)
            assert m.confusion[c, c] / max(m.confusion[c].sum(), 1) == pytest.approx(row.precision)


def pixel_inclusive(annotation):
    """VOC boxes own their last pixel: one more in width and height makes plain areas of them."""
    x, y, w, h = annotation["bbox"]
    return [x, y, x + w + 1, y + h + 1]


@pytest.mark.parametrize("name", ["voc_metric_85"])
def test_precision_and_recall_of_voc_style_goldens(name):
    folder = shared(f"data/eval-goldens/{name}")
    gold, found, expected = (
        json.loads((folder / f).read_text())
        for f in ("groundtruths_coco.json", "detections_coco.json", "expected0_5.json")
    )
    names = {c["id"]: c["name"] for c in gold["categories"]}
    number = {category: i for i, category in enumerate(sorted(names))}
    images = sorted({i["id"] for i in gold["images"]})
    truths, detections = [], []
    for image in images:
        objects = [a for a in gold["annotations"] if a["image_id"] == image]
        truths.append(truth([pixel_inclusive(a) for a in objects], [number[a["category_id"]] for a in objects]))
        hits = [d for d in found if d["image_id"] == image]
        detections.append(rows(*([*pixel_inclusive(d), d["score"], number[d["category_id"]]] for d in hits)))
    figures = evaluate_coco(_coco_truth(truths, len(names)), _coco_results(detections))
    matches = [match_image(i + 1, t, d, figures) for i, (t, d) in enumerate(zip(truths, detections, strict=True))]
    for category, c in number.items():
        want = expected.get(names[category])
        if want is None:
            continue
        picked = [(d[m.rows], m.found >= 0) for d, m in zip(detections, matches, strict=True)]
        hit = sum(int(f[r[:, 5] == c].sum()) for r, f in picked)
        total = sum(int((r[:, 5] == c).sum()) for r, _ in picked)
        assert (hit, total - hit) == (want["tp"], want["fp"]), names[category]


def test_perfect_and_empty():
    t = truth([[0, 0, 10, 10], [20, 20, 40, 40]], [0, 1])
    perfect = evaluate([t], [rows([0, 0, 10, 10, 0.9, 0], [20, 20, 40, 40, 0.8, 1])], {0: "a", 1: "b", 2: "none"})
    assert (perfect.map50, perfect.map50_95, perfect.precision, perfect.recall, perfect.f1) == pytest.approx((1,) * 5)
    assert perfect.fitness == pytest.approx(1)
    assert np.trace(perfect.confusion) == 2
    nothing = evaluate([t], [rows()], {0: "a", 1: "b", 2: "none"})
    assert (nothing.map50, nothing.precision, nothing.recall, nothing.fitness) == (0, 0, 0, 0)


def test_class_without_truth_is_left_out_of_means():
    t = truth([[0, 0, 10, 10]], [0])
    m = evaluate([t], [rows([0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.9, 1])], {0: "a", 1: "absent"})
    assert m.map50 == m.precision == pytest.approx(1)
    assert m.per_class[1][3:] == (-1, -1, -1, -1, -1)
    assert m.to_dict()["per_class"][1]["ap50"] is None
    assert m.confusion[1, 2] == 1


def test_no_truth_at_all_and_no_images():
    for truths, found in (([truth([], [])], [rows([0, 0, 1, 1, 0.5, 0])]), ([], [])):
        m = evaluate(truths, found, {0: "a"})
        assert (m.map50_95, m.precision, m.fitness) == (-1, -1, 0)
        assert m.to_dict()["map50"] is None


def test_wrong_class_is_confusion_and_crowd_is_nothing():
    t = truth([[0, 0, 20, 20], [50, 50, 90, 90]], [0, 0], [False, True])
    m = evaluate([t], [rows([0, 0, 20, 20, 0.9, 1], [55, 55, 60, 60, 0.9, 0])], {0: "a", 1: "b"})
    assert m.confusion.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert m.instances == 1


def test_best_confidence_drops_the_false_ones():
    t = truth([[0, 0, 20, 20]], [0])
    m = evaluate([t], [rows([0, 0, 20, 20, 0.8, 0], *([50 + i, 50, 60 + i, 60, 0.3, 0] for i in range(9)))], {0: "a"})
    assert (m.precision, m.recall) == (1, 1)
    assert 0.3 < m.confidence <= 0.302
    low = int(np.searchsorted(CONFIDENCES, 0.3))
    assert m.curves.precision[0, low] == pytest.approx(0.1)


def test_best_hundred_per_image_and_class_count_as_in_coco():
    t = truth([[0, 0, 20, 20]], [0])
    many = [[50, 50, 60, 60, 0.9, 0]] * 100
    m = evaluate([t], [rows(*many, [0, 0, 20, 20, 0.1, 0])], {0: "a"})
    assert m.recall == m.map50 == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_an_error(bad):
    with pytest.raises(TrainingError, match="image 1: detections hold NaN"):
        evaluate([truth([], [])] * 2, [rows(), rows([0, 0, bad, 1, 0.5, 0])], {0: "a"})


def test_dictionary_is_json():
    truths, detections = random_images(1)
    text = json.dumps(evaluate(truths, detections, {0: "a", 1: "b", 2: "c"}).to_dict(), allow_nan=False)
    assert json.loads(text)["per_class"][0]["name"] == "a"


def test_area_is_that_of_the_polygons():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
    boxes = np.array([[0, 0, 30, 30], [0, 0, 4, 5]], np.float32)
    sample = Sample("x", boxes, np.zeros(2, np.int64), [[square, square[:3]], []],
                    np.zeros(2, bool))  # fmt: skip
    assert truth_of(sample).areas.tolist() == [150, 20]
    assert isinstance(truth_of(sample), Truth)
