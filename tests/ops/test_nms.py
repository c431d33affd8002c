"""NMS: reference and Rust against a brute-force loop, recorded results of two outside programs, and odd input."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import shared
from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops import nms, nms_head

BACKENDS = ["reference", "rust"]
backends = pytest.mark.parametrize("backend", BACKENDS)


def brute_force(boxes, scores, iou_thr, classes):
    """Greedy suppression in float64 Python."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        x1, y1, x2, y2 = boxes[i]
        for j in kept:
            w = max(min(x2, boxes[j][2]) - max(x1, boxes[j][0]), 0)
            h = max(min(y2, boxes[j][3]) - max(y1, boxes[j][1]), 0)
            area_j = (boxes[j][2] - boxes[j][0]) * (boxes[j][3] - boxes[j][1])
            if classes[i] == classes[j] and w * h > iou_thr * ((x2 - x1) * (y2 - y1) + area_j - w * h):
                break
        else:
            kept.append(i)
    return kept


# Whole numbers and a threshold that no ratio of small whole numbers hits: float32 and float64 then agree.
IOU_THR = 0.4142135
some_boxes = st.lists(
    st.tuples(*(st.integers(0, 40) for _ in range(2)), *(st.integers(1, 25) for _ in range(2)),
              st.integers(0, 8), st.integers(0, 2)),
    max_size=40,
)  # fmt: skip


@backends
@given(some_boxes)
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(backend, raw):
    table = np.array(raw, dtype=np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    scores, classes = table[:, 4] / 8, table[:, 5].astype(np.int64)
    kept = nms(torch.tensor(boxes), torch.tensor(scores), IOU_THR, classes=torch.tensor(classes), backend=backend)
    assert kept.tolist() == brute_force(boxes.tolist(), scores.tolist(), IOU_THR, classes.tolist())


@pytest.mark.parametrize("kind", ["hard", "diou", "soft_linear", "soft_gaussian"])
@given(some_boxes)
@settings(max_examples=60, deadline=None)
def test_rust_equals_reference(kind, raw):
    table = torch.tensor(raw, dtype=torch.float32).reshape(-1, 6)
    boxes = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], dim=1)
    scores = table[:, 4] / 8 + torch.arange(len(table)) * 1e-3  # apart, so that rounding cannot swap them
    run = lambda backend: nms(  # noqa: E731
        boxes, scores, IOU_THR, classes=table[:, 5].long(), kind=kind, max_det=20, backend=backend
    )
    assert run("rust").tolist() == run("reference").tolist()


@backends
@pytest.mark.parametrize(
    ("setting", "conf", "iou", "agnostic"),
    [
        ("class_aware_0.01_0.65", 0.01, 0.65, False),
        ("class_aware_0.25_0.45", 0.25, 0.45, False),
        ("class_agnostic_0.05_0.5", 0.05, 0.5, True),
    ],
)
def test_equals_recorded_results_of_a_real_detector(backend, setting, conf, iou, agnostic):
    folder = shared("data/eval-goldens/nms_yolox_nano")
    expected = json.loads((folder / "expected_keep.json").read_text())["expected_keep"]
    for image, settings_of_image in expected.items():
        data = np.load(folder / f"{image}.npz")
        boxes, scores = torch.tensor(data["boxes_xyxy"]), torch.tensor(data["scores"])
        best = scores.max(dim=1)
        (passing,) = (best.values >= conf).nonzero(as_tuple=True)
        classes = None if agnostic else best.indices[passing]
        kept = nms(boxes[passing], best.values[passing], iou, classes=classes, backend=backend)
        assert passing[kept].tolist() == settings_of_image[setting], image


def random_head(num_images=2, num_classes=5, extra=3, anchors=300, seed=0):
    rng = torch.Generator().manual_seed(seed)
    pred = torch.rand(num_images, 4 + num_classes + extra, anchors, generator=rng)
    pred[:, :2] *= 200
    pred[:, 2:4] = pred[:, 2:4] * 60 + 5
    return pred


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("classes", [None, [1, 3], [7, -1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_head_rust_equals_reference(multi_label, agnostic, compat, classes, dtype):
    options = {
        "conf_thr": 0.6, "iou_thr": 0.5, "multi_label": multi_label, "agnostic": agnostic, "compat": compat,
        "num_classes": 5, "classes": classes, "max_det": 50,
    }  # fmt: skip
    pred = random_head().to(dtype).mT.contiguous().mT  # as a head that ends in (B, A, channels)
    for ours, ref in zip(nms_head(pred, **options), nms_head(pred, backend="reference", **options), strict=True):
        assert ours.shape == ref.shape
        assert torch.equal(ours, ref)


@backends
def test_head_carries_extra_columns_and_scores(backend):
    pred = torch.zeros(1, 4 + 2 + 2, 3)
    pred[0, :, 1] = torch.tensor([50.0, 40, 20, 10, 0.1, 0.9, 7, 8])
    (rows,) = nms_head(pred, conf_thr=0.25, iou_thr=0.5, num_classes=2, backend=backend)
    torch.testing.assert_close(rows, torch.tensor([[40.0, 35, 60, 45, 0.9, 1, 7, 8]]))


@backends
@pytest.mark.parametrize("shape", [(0, 9, 4), (2, 9, 0), (1, 9, 5)])
def test_head_without_detections(backend, shape):
    rows = nms_head(torch.zeros(shape), conf_thr=0.25, iou_thr=0.5, num_classes=3, backend=backend)
    assert [tuple(r.shape) for r in rows] == [(0, 6 + 2)] * shape[0]


def shifted_rows(pred, conf, iou, multi_label, limit):
    """The ultralytics rule as a fact: classes 7680 pixels apart in float32, then all compete (torchvision's rule)."""
    rows = []
    for column in pred.T:
        scores = column[4:]
        classes = (scores > conf).nonzero().flatten().tolist() if multi_label else [int(scores.argmax())]
        half = column[2:4] / 2
        box = torch.cat([column[:2] - half, column[:2] + half])
        rows += [[*box.tolist(), float(scores[c]), c] for c in classes if scores[c] > conf]
    table = torch.tensor(rows).reshape(-1, 6)
    shifted = (table[:, :4] + table[:, 5:] * 7680).numpy()
    kept = []
    for i in sorted(range(len(table)), key=lambda i: (-table[i, 4].item(), i)):
        if len(kept) < limit and not any(float32_iou(shifted[i], shifted[j]) > iou for j in kept):
            kept.append(i)
    return table[kept]


def float32_iou(a, b):
    """In numpy scalars of one precision."""
    zero = np.float32(0)
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), zero) * max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    return float(inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter))


@backends
@pytest.mark.parametrize("multi_label", [False, True])
def test_compat_rows_are_those_of_shifted_classes(backend, multi_label):
    pred = random_head(num_images=1, num_classes=80, extra=0, anchors=60, seed=3)
    pred[:, :4] *= 0.35  # crowded
    pred[:, 4:] **= 20
    expected = shifted_rows(pred[0], 0.3, 0.4, multi_label, 40)
    (rows,) = nms_head(
        pred, conf_thr=0.3, iou_thr=0.4, multi_label=multi_label, compat=True, max_det=40, backend=backend
    )
    assert len(rows) > 5
    assert torch.equal(rows, expected)


@backends
def test_compat_rounds_far_classes(backend):
    pred = torch.zeros(1, 4 + 80, 2)
    pred[0, :4] = torch.tensor([[10.0, 12.51], [10, 10], [10, 10], [10, 10]])  # IoU 0.5988 exactly, 0.6 after rounding
    pred[0, 4 + 79] = torch.tensor([0.9, 0.8])
    count = lambda compat: len(  # noqa: E731
        nms_head(pred, conf_thr=0.25, iou_thr=0.5989, compat=compat, backend=backend)[0]
    )
    assert (count(False), count(True)) == (2, 1)


@backends
def test_ties_at_the_cut_are_resolved_by_index(backend):
    pred = random_head(num_images=1, num_classes=3, extra=0, anchors=40)
    pred[:, :2] += torch.arange(40) * 300  # apart
    pred[:, 4:] = 0.5
    options = {"conf_thr": 0.25, "iou_thr": 0.5, "multi_label": True, "backend": backend}
    (everything,), (some,) = nms_head(pred, **options), nms_head(pred, max_det=7, **options)
    assert everything[:, 5].tolist() == [0, 1, 2] * 40  # anchor by anchor
    assert torch.equal(some, everything[:7])


@backends
@pytest.mark.parametrize(("conf", "iou"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.5)])
def test_head_at_the_ends_of_the_thresholds(backend, conf, iou):
    pred = random_head(num_images=1, num_classes=2, extra=0, anchors=30)
    pred[0, 4:, ::3] = 0
    pred[0, 4, 1] = 1.0  # not above 1
    (rows,) = nms_head(pred, conf_thr=conf, iou_thr=iou, multi_label=True, backend=backend)
    assert len(rows) == {0.0: 40 if iou == 1 else len(rows), 1.0: 0}[conf]
    assert (rows[:, 4] > conf).all()


@pytest.mark.parametrize("num_classes", [1, 80, 1203])
@pytest.mark.parametrize("multi_label", [False, True])
def test_numbers_of_classes_and_large_tiles(num_classes, multi_label):
    pred = random_head(num_images=1, num_classes=num_classes, extra=2, anchors=2500 if num_classes < 1000 else 40)
    pred[:, 4:-2] **= 30
    options = {"conf_thr": 0.5, "iou_thr": 0.5, "multi_label": multi_label, "num_classes": num_classes, "max_det": 99}
    (ours,), (expected,) = nms_head(pred, **options), nms_head(pred, backend="reference", **options)
    assert torch.equal(ours, expected)


def test_head_keeps_the_best_30000_candidates():
    pred = random_head(num_images=1, num_classes=8, extra=0, anchors=5000)
    options = {"conf_thr": 0.05, "iou_thr": 1.0, "multi_label": True, "max_det": 100_000, "num_classes": 8}
    (rows,) = nms_head(pred, **options)
    assert len(rows) == 30_000
    expected = pred[0, 4:].flatten().sort(descending=True).values[:30_000]
    torch.testing.assert_close(rows[:, 4], expected)


@backends
def test_odd_input(backend):
    box = torch.tensor([[0.0, 0, 10, 10]])
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5, backend=backend).tolist() == []
    two = box.repeat(2, 1)
    assert nms(two, torch.tensor([0.5, 0.5]), 0.5, backend=backend).tolist() == [0]  # a tie: the lower index
    assert nms(two * 0, torch.tensor([0.5, 0.6]), 0.5, backend=backend).tolist() == [1, 0]  # no area: no overlap
    inverted = torch.tensor([[10.0, 10, 0, 0]])
    assert nms(inverted, torch.tensor([0.5]), 0.5, backend=backend).tolist() == [0]
    infinite = torch.tensor([[0.0, 0, torch.inf, torch.inf], [0, 0, 1, 1]])
    assert nms(infinite, torch.tensor([0.9, 0.5]), 0.5, backend=backend).tolist() == [0, 1]
    assert nms(two, torch.tensor([0.0, -0.0]), 1.0, backend=backend).tolist() == [0, 1]
    assert nms(two, torch.tensor([0.1, 0.9]), 0.5, max_det=0, backend=backend).tolist() == []
    strided = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)).T.double()
    assert nms(strided, torch.rand(30), 0.5, backend=backend).dtype == torch.int64


@backends
@pytest.mark.parametrize(
    ("boxes", "scores", "options", "error", "message"),
    [
        ([[0.0, 0, 1, float("nan")]], [0.5], {}, DetectionError, "NaN"),
        ([[0.0, 0, 1, 1]], [float("nan")], {}, DetectionError, "NaN"),
        ([[0.0, 0, 1]], [0.5], {}, DetectionError, r"shape \(N, 4\), got \(1, 3\)"),
        ([[0.0, 0, 1, 1]], [0.5, 0.6], {}, DetectionError, r"scores must have shape \(1,\)"),
        ([[0.0, 0, 1, 1]], [0.5], {"kind": "fast"}, ConfigError, "kind must be one of hard"),
        ([[0.0, 0, 1, 1]], [0.5], {"iou_thr": 1.5}, ConfigError, "iou_thr must be between 0 and 1"),
    ],
)
def test_bad_input(backend, boxes, scores, options, error, message):
    options = {"iou_thr": 0.5} | options
    with pytest.raises(error, match=message):
        nms(torch.tensor(boxes), torch.tensor(scores), backend=backend, **options)


@backends
@pytest.mark.parametrize("channel", [0, 3, 5])
@pytest.mark.parametrize("multi_label", [False, True])
def test_nan_in_a_head_is_an_error_but_not_in_extra_columns(backend, channel, multi_label):
    options = {"conf_thr": 0.25, "iou_thr": 0.5, "num_classes": 5, "multi_label": multi_label, "backend": backend}
    pred = random_head()
    pred[1, 10, 17] = torch.nan
    pred[1, 6, 3] = torch.inf
    nms_head(pred, **options)
    pred[1, channel, 17] = torch.nan
    with pytest.raises(DetectionError, match="NaN"):
        nms_head(pred, **options)
    pred[1, channel, 17] = 0.5
    pred[1, 0, 9], pred[1, 2, 9] = torch.inf, -torch.inf  # a corner at infinity less infinity
    with pytest.raises(DetectionError, match="NaN"):
        nms_head(pred, **options)


@backends
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 12}, DetectionError, r"got \(2, 12, 300\)"),
        ({"num_classes": 0}, ConfigError, "num_classes must be 1 or more"),
        ({"conf_thr": -0.1}, ConfigError, "conf_thr must be between"),
        ({"max_det": -1}, ConfigError, "max_det must be 0 or more"),
    ],
)
def test_bad_options_of_a_head(backend, options, error, message):
    with pytest.raises(error, match=message):
        nms_head(random_head(), backend=backend, **({"conf_thr": 0.25, "iou_thr": 0.5} | options))


def test_a_million_boxes():
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(1_000_000, 2, generator=rng) * 50_000
    boxes, scores = torch.cat([corner, corner + 20], dim=1), torch.rand(1_000_000, generator=rng)
    kept = nms(boxes, scores, 0.5)
    assert (scores[kept].diff() <= 0).all()
    assert torch.equal(nms(boxes, scores, 0.5, max_det=500), kept[:500])


@pytest.mark.parametrize("iou_thr", [0.005, 0.3, 0.7])
@pytest.mark.parametrize("num_classes", [1, 2])
def test_many_boxes_equal_the_definition(iou_thr, num_classes):
    rng = torch.Generator().manual_seed(1)
    centre = torch.rand(4000, 2, generator=rng) * 900
    half = torch.rand(4000, 2, generator=rng) ** 4 * 150 + 1  # a few large ones
    boxes, scores = torch.cat([centre - half, centre + half], dim=1), torch.rand(4000, generator=rng)
    classes = torch.randint(num_classes, (4000,), generator=rng)
    for kind in ("hard", "diou"):
        run = lambda backend: nms(boxes, scores, iou_thr, classes=classes, kind=kind, backend=backend)  # noqa: B023, E731
        assert torch.equal(run("rust"), run("reference"))
