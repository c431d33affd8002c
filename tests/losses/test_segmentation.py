"""The mask loss against loops over pixels in float64, its gradients, and objects that teach no mask."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.test_detection import random_raw
from mamba_yolo.boxes import anchor_grid
from mamba_yolo.errors import ShapeError
from mamba_yolo.losses import DetectionLoss, SegmentationLoss, loss_of
from mamba_yolo.losses.detection import Positives
from mamba_yolo.losses.segmentation import sum_of_masks

SIDE = 16  # of the prototypes of 64 pixels


def random_case(seed=0, num_boxes=6, dtype=torch.float32):
    """Outputs for two images of 64 pixels, boxes in any order of images, and masks."""
    rng = torch.Generator().manual_seed(seed)
    raw = random_raw(dtype)
    raw = raw._replace(
        mask_coefs=torch.randn(2, 32, 84, generator=rng).to(dtype).requires_grad_(),
        protos=torch.randn(2, 32, SIDE, SIDE, generator=rng).to(dtype).requires_grad_(),
    )
    centres = torch.rand(num_boxes, 2, generator=rng) * 0.6 + 0.2
    boxes = torch.cat([centres, torch.rand(num_boxes, 2, generator=rng) * 0.3 + 0.1], 1)
    classes = torch.randint(0, 5, (num_boxes,), generator=rng)
    owner = torch.randint(0, 2, (num_boxes,), generator=rng)
    masks = (torch.rand(num_boxes, SIDE, SIDE, generator=rng) < 0.5).to(torch.uint8)
    return raw, (boxes, classes, owner, masks)


def by_loops(raw, positives, boxes, masks):
    """Mean over anchors with a mask: cross-entropy of every pixel in the box over the area of the box, over h w."""
    protos, coefs = raw.protos.detach().double().numpy(), raw.mask_coefs.detach().double().numpy()
    total, count = 0.0, 0
    for image, anchor, row in zip(*(p.tolist() for p in positives), strict=True):
        if not masks[row].any():
            continue
        count += 1
        cx, cy, w, h = boxes[row].double().tolist()
        loss = 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                if abs((x + 0.5) / SIDE - cx) < w / 2 and abs((y + 0.5) / SIDE - cy) < h / 2:
                    logit = sum(coefs[image, c, anchor] * protos[image, c, y, x] for c in range(32))
                    p = 1 / (1 + math.exp(-logit))
                    loss -= math.log(p) if masks[row, y, x] else math.log(1 - p)
        total += loss / (SIDE * SIDE) / (w * h)
    return total / max(count, 1), count


@pytest.mark.parametrize("seed", range(4))
def test_equals_loops_and_leaves_the_detection_loss_as_it_is(seed):
    raw, (boxes, classes, owner, masks) = random_case(seed, dtype=torch.float64)
    masks[0] = 0
    detection = DetectionLoss(5)
    alone, positives = detection.with_positives(raw, boxes, classes, owner)
    expected, count = by_loops(raw, positives, boxes, masks)
    assert 0 < count < len(positives.row)
    loss = SegmentationLoss(detection)(raw, boxes, classes, owner, masks)
    assert float(loss.seg) == pytest.approx(7.5 * expected, rel=1e-6)
    assert int(loss.learners) == count
    assert loss.total.item() == pytest.approx(alone.total.item() + 7.5 * expected * 2, rel=1e-6)
    assert torch.equal(loss.total - loss.seg_total, loss.total - loss.seg * 2)
    assert [float(p) for p in loss[1:5]] == [float(p) for p in alone[1:5]]


def test_positives_name_the_box_that_their_anchor_lies_in():
    raw, (boxes, classes, owner, _) = random_case(1, num_boxes=9)
    _, positives = DetectionLoss(5).with_positives(raw, boxes, classes, owner)
    centres, strides = anchor_grid(raw.levels, (8, 16, 32))
    x_y = (centres * strides)[positives.anchor] / 64
    mine = boxes[positives.row]
    assert ((x_y - mine[:, :2]).abs() < mine[:, 2:] / 2).all()
    assert owner[positives.row].equal(positives.image)
    assert len(set(positives.row.tolist())) > 3


def test_gradients():
    rng = torch.Generator().manual_seed(0)
    protos = torch.randn(2, 3, 6, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    coefs = torch.randn(2, 3, 7, generator=rng, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.4, 0.5, 0.6, 0.5], [0.7, 0.3, 0.5, 0.5]], dtype=torch.float64)
    masks = (torch.rand(2, 6, 5, generator=rng) < 0.5).to(torch.uint8)
    learners = Positives(torch.tensor([0, 0, 1]), torch.tensor([1, 5, 5]), torch.tensor([1, 0, 0]))
    assert torch.autograd.gradcheck(lambda p, c: sum_of_masks(p, c, learners, boxes, masks), (protos, coefs))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_sum_equals_whole_pictures_anchor_by_anchor(data):
    """Boxes from less than a pixel to all of it, over the border or outside, with any number of anchors."""
    edge = st.floats(-0.25, 1.25, width=32) | st.integers(0, 16).map(lambda k: k / 16)
    size = st.floats(2**-10, 1.5, width=32) | st.integers(1, 16).map(lambda k: k / 16)
    boxes = torch.tensor(data.draw(st.lists(st.tuples(edge, edge, size, size), min_size=1, max_size=9)))
    anchors = data.draw(st.lists(st.tuples(st.integers(0, len(boxes) - 1), st.integers(0, 6)), max_size=20))
    row, anchor = torch.tensor(anchors, dtype=torch.long).reshape(-1, 2).unbind(1)
    learners = Positives(row % 2, anchor, row)
    rng = torch.Generator().manual_seed(len(anchors))
    protos = torch.randn(2, 3, 8, 16, generator=rng, dtype=torch.float64)
    coefs = torch.randn(2, 3, 7, generator=rng, dtype=torch.float64)
    masks = (torch.rand(len(boxes), 8, 16, generator=rng) < 0.5).to(torch.uint8)

    expected = torch.zeros((), dtype=torch.float64)
    y, x = torch.arange(8)[:, None] + 0.5, torch.arange(16) + 0.5
    for image, one, mine in zip(*(values.tolist() for values in learners), strict=True):
        cx, cy, w, h = (boxes[mine].double() * torch.tensor([16, 8, 16, 8])).tolist()
        inside = (x >= cx - w / 2) & (x < cx + w / 2) & (y >= cy - h / 2) & (y < cy + h / 2)
        p = torch.einsum("c,chw->hw", coefs[image, :, one], protos[image]).sigmoid()
        loss = -torch.where(masks[mine] > 0, p, 1 - p).log()
        expected += loss[inside].sum() / (w * h)
    actual = sum_of_masks(protos, coefs, learners, boxes.double(), masks)
    assert float(actual) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", ["no boxes", "empty masks"])
def test_nothing_to_learn_gives_zero_and_gradients_of_zero(case):
    raw, (boxes, classes, owner, masks) = random_case()
    if case == "no boxes":
        boxes, classes, owner, masks = boxes[:0], classes[:0], owner[:0], masks[:0]
    else:
        masks = masks * 0
    loss = SegmentationLoss(DetectionLoss(5))(raw, boxes, classes, owner, masks)
    assert float(loss.seg) == 0
    assert int(loss.learners) == 0
    loss.total.backward()
    assert float(raw.protos.grad.abs().sum() + raw.mask_coefs.grad.abs().sum()) == 0


def test_an_object_teaches_inside_its_box_only():
    raw, (boxes, classes, owner, masks) = random_case(num_boxes=1)
    boxes[0] = torch.tensor([0.5, 0.5, 0.5, 0.25])
    SegmentationLoss(DetectionLoss(5))(raw, boxes, classes, owner, masks).seg_total.backward()
    touched = raw.protos.grad[owner[0]].abs().sum(0) > 0
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[6:10, 4:12] = True
    assert torch.equal(touched, expected)
    assert not raw.protos.grad[1 - owner[0]].any()


def test_half_precision_is_computed_in_float32():
    raw, targets = random_case()
    half = raw._replace(
        levels=[x.detach().half() for x in raw.levels],
        mask_coefs=raw.mask_coefs.detach().half(), protos=raw.protos.detach().half(),
    )  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        loss = SegmentationLoss(DetectionLoss(5))(half, *targets)
    assert loss.total.dtype == torch.float32
    assert float(loss.seg) == pytest.approx(float(SegmentationLoss(DetectionLoss(5))(raw, *targets).seg), rel=1e-2)


def test_wrong_shapes():
    raw, targets = random_case()
    loss = loss_of("segment", DetectionLoss(5))
    with pytest.raises(ShapeError, match=r"expected masks of shape \(6, 16, 16\), as many as boxes, got \(6, 8, 8\)"):
        loss(raw, *targets[:3], targets[3][:, :8, :8])
    with pytest.raises(ShapeError, match="needs the outputs of a -seg network"):
        loss(raw._replace(protos=None), *targets)
    assert isinstance(loss_of("detect", loss.detection), DetectionLoss)
