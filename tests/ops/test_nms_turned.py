"""Suppression of turned boxes: areas by slices, Gaussians by matrices, in float64 numpy; and upright ones as `nms`."""

import numpy as np
import pytest
import torch

from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops import nms, nms_turned

backends = pytest.mark.parametrize("backend", ["reference", "rust"])
kinds = pytest.mark.parametrize("kind", ["polygon", "gaussian"])
SLICES = 4000


def corners(box):
    cx, cy, w, h, angle = box
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return np.array([[cx, cy] + (a * w * along + b * h * across) / 2 for a, b in [(-1, -1), (1, -1), (1, 1), (-1, 1)]])


def chords(box, heights):
    """First and last x of a rectangle at heights y; the last before the first where there is none."""
    points = corners(box)
    left, right = np.full(len(heights), np.inf), np.full(len(heights), -np.inf)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
        within = (np.minimum(y1, y2) <= heights) & (heights <= np.maximum(y1, y2)) & (y1 != y2)
        x = x1 + (x2 - x1) * (heights - y1) / np.where(y1 == y2, 1, y2 - y1)
        left, right = np.where(within, np.minimum(left, x), left), np.where(within, np.maximum(right, x), right)
    return left, right


def polygon(a, b):
    """IoU by slices: their error falls with the square of their number."""
    top, bottom = corners(a)[:, 1].min(), corners(a)[:, 1].max()
    heights = top + (bottom - top) * (np.arange(SLICES) + 0.5) / SLICES
    (left, right), (other_left, other_right) = chords(a, heights), chords(b, heights)
    length = (np.minimum(right, other_right) - np.maximum(left, other_left)).clip(min=0)
    common = length.sum() * (bottom - top) / SLICES
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def gaussian(a, b):
    """1 - sqrt(1 - exp(-d)), d the Bhattacharyya distance of normal distributions."""
    spreads = []
    for _, _, w, h, angle in (a, b):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        spreads.append(turn @ np.diag([w * w / 12, h * h / 12]) @ turn.T)
    mean, apart = sum(spreads) / 2, np.subtract(a[:2], b[:2])
    determinant = np.linalg.det
    distance = apart @ np.linalg.inv(mean) @ apart / 8
    distance += np.log(determinant(mean) / np.sqrt(determinant(spreads[0]) * determinant(spreads[1]))) / 2
    return 1 - np.sqrt(1 - np.exp(-distance))


def some_boxes(seed, number=40):
    rng = np.random.default_rng(seed)
    boxes = np.column_stack(
        [rng.uniform(0, 40, (number, 2)), rng.uniform(5, 45, (number, 2)), rng.uniform(-4, 4, number)]
    )
    scores = rng.permutation(np.linspace(0.01, 0.99, number))
    return boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 2, number)


@backends
@kinds
@pytest.mark.parametrize("iou_thr", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_remove_those_alike(backend, kind, iou_thr, seed):
    boxes, scores, classes = some_boxes(seed)
    alike = {"polygon": polygon, "gaussian": gaussian}[kind]
    kept = []
    for i in np.argsort(-scores):
        likeness = [alike(boxes[k].astype(float), boxes[i].astype(float)) for k in kept if classes[k] == classes[i]]
        assert all(abs(value - iou_thr) > 1e-5 for value in likeness), "too near for slices; take another seed"
        if all(value <= iou_thr for value in likeness):
            kept.append(i)
    tensors = torch.tensor(boxes), torch.tensor(scores)
    found = nms_turned(*tensors, iou_thr, classes=torch.tensor(classes), kind=kind, backend=backend)
    assert found.tolist() == kept
    assert 1 < len(kept) < len(boxes)
    first = nms_turned(*tensors, iou_thr, classes=torch.tensor(classes), kind=kind, backend=backend, max_det=2)
    assert first.tolist() == kept[:2]


@backends
@pytest.mark.parametrize("quarters", [0, 1, 2, -3])
def test_boxes_at_right_angles_are_treated_as_upright_ones(backend, quarters):
    boxes, scores, _ = map(torch.tensor, some_boxes(7, 200))
    half = boxes[:, 2:4] / 2
    kept = nms(torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1), scores, 0.4)
    size = boxes[:, 2:4].flip(1) if quarters % 2 else boxes[:, 2:4]
    turned = torch.cat([boxes[:, :2], size, torch.full((200, 1), quarters * torch.pi / 2)], 1)
    assert nms_turned(turned, scores, 0.4, backend=backend).tolist() == kept.tolist()


@backends
@kinds
def test_odd_input(backend, kind):
    def call(boxes, scores, iou_thr=0.5, **options):
        return nms_turned(torch.tensor(boxes), torch.tensor(scores), iou_thr, kind=kind, backend=backend, **options)

    assert nms_turned(torch.empty(0, 5), torch.empty(0), 0.5, kind=kind, backend=backend).tolist() == []
    box, empty, far = [3.0, 4, 20, 9, 0.3], [3.0, 4, 0, 0, 0], [1e6, 4, 20, 9, 0.3]
    assert call([box, box, empty, empty, far], [0.1, 0.9, 0.3, 0.3, 0.2]).tolist() == [1, 2, 3, 4]
    assert call([box] * 3, [0.5] * 3).tolist() == [0]
    assert call([box] * 3, [0.5] * 3, iou_thr=1.0).tolist() == [0, 1, 2]
    assert call([box], [0.5], max_det=0).tolist() == []
    for boxes, scores in (([[float("nan"), 4.0, 20, 9, 0.3]], [0.5]), ([box], [float("nan")])):
        with pytest.raises(DetectionError, match="NaN"):
            call(boxes, scores)
    with pytest.raises(DetectionError, match=r"\(N, 5\), got \(1, 4\)"):
        call([box[:4]], [0.5])
    with pytest.raises(ConfigError, match="kind must be one of polygon, gaussian"):
        nms_turned(torch.tensor([box]), torch.tensor([0.5]), 0.5, kind="hard", backend=backend)


@kinds
def test_many_boxes_as_the_definition(kind):
    boxes, scores, classes = map(torch.tensor, some_boxes(3, 600))
    for iou_thr in (0.0, 0.45, 0.8):
        options = {"classes": classes, "kind": kind}
        expected = nms_turned(boxes, scores, iou_thr, backend="reference", **options)
        assert torch.equal(nms_turned(boxes, scores, iou_thr, backend="rust", **options), expected)


def test_the_operator_is_registered_as_torch_wants_it():
    boxes, scores, classes = map(torch.tensor, some_boxes(1))
    torch.library.opcheck(torch.ops.mamba_yolo.nms_turned.default, (boxes, scores, classes, 0.5, 20, "polygon"))
