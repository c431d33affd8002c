"""The kinds of suppression against formulas in float64 numpy, ties at every cut, the class filter."""

import numpy as np
import pytest
import torch

from mamba_yolo.ops import nms, nms_head

backends = pytest.mark.parametrize("backend", ["reference", "rust"])
FLOOR, SIGMA = 1e-3, 0.5


def overlaps(box, boxes):
    """IoU with each box, and IoU less the squared distance of centres in diagonals of the common hull."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inter = np.prod(np.maximum(high - low, 0), axis=1)
    iou = inter / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - inter)
    hull = np.maximum(box[2:], boxes[:, 2:]) - np.minimum(box[:2], boxes[:, :2])
    apart = ((box[:2] + box[2:] - boxes[:, :2] - boxes[:, 2:]) / 2) ** 2
    return iou, iou - apart.sum(1) / (hull**2).sum(1)


def by_formula(kind, boxes, scores, classes, iou_thr):
    """arXiv 1704.04503 and 1911.08287, one box after the other."""
    scores, left, kept = scores.copy(), set(range(len(scores))), []
    while left:
        best = max(sorted(left), key=lambda i: scores[i])
        kept.append(best)
        left.remove(best)
        iou, diou = overlaps(boxes[best], boxes)
        for i in sorted(left):
            if classes[i] != classes[best]:
                continue
            if kind == "soft_linear" and iou[i] > iou_thr:
                scores[i] *= 1 - iou[i]
            if kind == "soft_gaussian":
                scores[i] *= np.exp(-(iou[i] ** 2) / SIGMA)
            if {"hard": iou[i] > iou_thr, "diou": diou[i] > iou_thr}.get(kind, scores[i] < FLOOR):
                left.remove(i)
    return kept


@backends
@pytest.mark.parametrize("kind", ["hard", "diou", "soft_linear", "soft_gaussian"])
@pytest.mark.parametrize("iou_thr", [0.0, 0.31, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_every_kind_is_its_formula(backend, kind, iou_thr, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (70, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (70, 2))], axis=1).astype(np.float32)
    scores, classes = rng.permutation(np.linspace(0.01, 0.99, 70)).astype(np.float32), rng.integers(0, 2, 70)
    kept = nms(
        torch.tensor(boxes), torch.tensor(scores), iou_thr, classes=torch.tensor(classes), kind=kind, backend=backend
    )
    assert kept.tolist() == by_formula(kind, boxes.astype(float), scores.astype(float), classes, iou_thr)


@backends
@pytest.mark.parametrize("kind", ["hard", "diou"])
def test_an_overlap_of_exactly_the_threshold_keeps_both(backend, kind):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 2.5, 10, 7.5], [40, 0, 50, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])  # the third has the same centre and IoU 0.5
    assert nms(boxes, scores, 0.5, kind=kind, backend=backend).tolist() == [0, 2, 3]
    assert nms(boxes, scores, 1.0, kind=kind, backend=backend).tolist() == [0, 1, 2, 3]
    assert nms(boxes, scores, 0.49, kind=kind, backend=backend).tolist() == [0, 3]


@backends
@pytest.mark.parametrize("kind", ["hard", "diou"])
@pytest.mark.parametrize("count", [2, 300, 5000])
def test_of_identical_boxes_the_first_stays(backend, kind, count):
    boxes, scores = torch.tensor([[3.0, 4, 5, 6]]).repeat(count, 1), torch.full((count,), 0.5)
    assert nms(boxes, scores, 0.99, kind=kind, backend=backend).tolist() == [0]
    assert nms(boxes, scores, 1.0, max_det=2, kind=kind, backend=backend).tolist() == [0, 1]


@pytest.mark.parametrize("anchors", [9999, 10_000, 10_001])
def test_ties_around_the_30000_candidates_are_resolved_by_index(anchors):
    pred = torch.full((1, 4 + 3, anchors), 0.5)
    pred[0, 0] = torch.arange(anchors) * 4.0
    pred[0, 2:4] = 2.0
    (rows,) = nms_head(pred, conf_thr=0.25, iou_thr=0.5, multi_label=True, max_det=100_000)
    expected = [(a * 4.0, c) for a in range(anchors) for c in range(3)][:30_000]
    assert list(zip(((rows[:, 0] + rows[:, 2]) / 2).tolist(), rows[:, 5].tolist(), strict=True)) == expected


@backends
@pytest.mark.parametrize("agnostic", [False, True])
def test_a_class_filter_chooses_before_boxes_compete(backend, agnostic):
    rng = torch.Generator().manual_seed(4)
    pred = torch.rand(1, 4 + 6 + 2, 120, generator=rng) * torch.tensor([[60.0]] * 4 + [[1.0]] * 8)
    options = {"conf_thr": 0.3, "iou_thr": 0.4, "num_classes": 6, "agnostic": agnostic, "backend": backend}
    (rows,) = nms_head(pred, classes=[1, 4], multi_label=True, **options)
    only = pred.clone()
    only[:, [4, 6, 7, 9]] = 0  # classes 0, 2, 3, 5
    assert torch.equal(rows, nms_head(only, multi_label=True, **options)[0])
    assert set(rows[:, 5].tolist()) == {1.0, 4.0}
    extra = lambda columns: {tuple(c) for c in columns.T.tolist()}  # noqa: E731
    assert {tuple(row) for row in rows[:, 6:].tolist()} <= extra(pred[0, 10:])
    (best,) = nms_head(pred, classes=[1, 4], **options)  # anchors whose best class is another are left out
    winners = pred[0, 4:10].argmax(0)
    assert {tuple(row) for row in best[:, 6:].tolist()} <= extra(pred[0, 10:, (winners == 1) | (winners == 4)])
    assert nms_head(pred, classes=[], **options)[0].shape == (0, 8)
