"""COCO figures against recorded ones and against pycocotools on random data."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest

from helpers import shared
from mamba_yolo.engine.coco import FIGURES, evaluate_coco

EXACT = 1e-12


def read(path):
    return json.loads(path.read_text())


def compare(figures, expected):
    for name in FIGURES:
        assert figures.summary[name] == pytest.approx(expected["summary"][name], abs=EXACT), name
    if "per_category" in expected:
        for category, ap, ap50 in zip(figures.category_ids, figures.ap, figures.ap50, strict=True):
            row = expected["per_category"][str(category)]
            assert ap == pytest.approx(-1.0 if row["AP"] is None else row["AP"], abs=EXACT)
            assert ap50 == pytest.approx(-1.0 if row["AP50"] is None else row["AP50"], abs=EXACT)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_val2014_all_figures(kind):
    folder = shared("data/eval-goldens/coco_val2014_100")
    results = read(folder / f"instances_val2014_fake{kind}100_results.json")
    figures = evaluate_coco(read(folder / "instances_val2014_100.json"), results, kind)
    compare(figures, read(folder / "expected_pycocotools.json")["results"][kind])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_val2014_class_agnostic(kind):
    folder = shared("data/eval-goldens/coco_val2014_100")
    expected = read(folder / "expected_pycocotools.json")["results"][f"{kind}_class_agnostic"]
    results = read(folder / f"instances_val2014_fake{kind}100_results.json")
    figures = evaluate_coco(read(folder / "instances_val2014_100.json"), results, kind, by_category=False)
    compare(figures, {"summary": expected.get("summary", expected)})


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_small_cases_with_an_empty_size_bucket(kind):
    folder = shared("data/eval-goldens/coco_small_cases")
    figures = evaluate_coco(read(folder / "gt_dataset.json"), read(folder / "dt_dataset.json"), kind)
    compare(figures, read(folder / "expected_pycocotools.json")["results"][kind])
    assert figures.summary["AP_small"] == -1


def test_real_detector_on_coco128():
    folder = shared("data/eval-goldens/coco128_yolox_nano")
    truth = read(shared("data/coco128") / "annotations/instances_train2017.json")
    figures = evaluate_coco(truth, read(folder / "results_bbox.json"))
    compare(figures, read(folder / "expected_pycocotools.json")["results"]["bbox"])


def random_case(seed):
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    boxes = lambda n: np.c_[rng.uniform(0, 60, (n, 2)), rng.uniform(1, 120, (n, 2))].tolist()  # noqa: E731
    truth, results = [], []
    for image in range(1, images + 1):
        for box in boxes(int(rng.integers(0, 6))):
            category, crowd = int(rng.integers(1, classes + 1)), int(rng.random() < 0.15)
            truth.append(
                {"image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            )
            for _ in range(int(rng.integers(0, 4))):
                near = (np.array(box) + rng.normal(0, 4, 4)).clip(0.5).tolist()
                score = float(np.round(rng.random(), 1))  # ties on purpose
                results.append({"image_id": image, "category_id": category, "bbox": near, "score": score})
    ids = [{"id": n + 1, **a} for n, a in enumerate(truth)]
    categories = [{"id": c, "name": str(c)} for c in range(1, classes + 1)]
    return {"images": [{"id": i} for i in range(1, images + 1)], "annotations": ids, "categories": categories}, results


@pytest.mark.parametrize("seed", range(30))
def test_equal_to_pycocotools_on_random_data(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = random_case(seed)
    if not results:
        results = [{"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.5}]
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = copy.deepcopy(truth)
        index.createIndex()
        oracle = COCOeval(index, index.loadRes(copy.deepcopy(results)), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    figures = evaluate_coco(truth, results)
    assert list(figures.summary.values()) == pytest.approx(list(oracle.stats), abs=EXACT)


def test_silent_and_leaves_its_input_alone(capfd):
    truth, results = random_case(3)
    before = copy.deepcopy((truth, results))
    evaluate_coco(truth, results)
    assert (truth, results) == before
    assert capfd.readouterr() == ("", "")


def test_no_results_and_no_truth():
    truth, _ = random_case(1)
    assert evaluate_coco(truth, []).summary["AP"] in (0.0, -1.0)
    assert evaluate_coco({**truth, "annotations": []}, []).summary["AP"] == -1
