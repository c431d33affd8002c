"""Each step of the assignment, against loops and by hand."""

import pytest
import torch

from mamba_yolo.boxes import ciou
from mamba_yolo.losses.assign import (
    FIT_EPS,
    Targets,
    assign,
    best_anchors,
    centres_inside,
    pad_targets,
    resolve_conflicts,
)

NUM_CLASSES = 3


def random_case(seed, batch=2, boxes=6, side=8, stride=8):
    """Predictions on one square level and padded targets, a few padded away."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.arange(side) + 0.5
    centres = torch.cartesian_prod(cells, cells).flip(1) * stride
    extent = side * stride
    boxes_xyxy = torch.rand(batch, boxes, 4, generator=rng) * extent
    low, high = boxes_xyxy.view(batch, boxes, 2, 2).sort(2).values.unbind(2)
    targets = Targets(
        torch.cat([low, high + 1], -1),
        torch.randint(NUM_CLASSES, (batch, boxes), generator=rng),
        torch.arange(boxes) < torch.tensor([[boxes], [boxes - 2]])[:batch],
    )
    half = torch.rand(batch, len(centres), 4, generator=rng) * 24
    predicted = torch.cat([centres - half[..., :2], centres + half[..., 2:]], -1)
    return torch.rand(batch, len(centres), NUM_CLASSES, generator=rng), predicted, centres, targets


def assign_by_loops(scores, predicted, centres, targets):
    """Target class scores (B, A, nc) and positives by the definition, one box and one anchor at a time."""
    expected = torch.zeros_like(scores)
    for b in range(len(scores)):
        taken = {}
        for m in range(targets.is_real.shape[1]):
            if not targets.is_real[b, m]:
                continue
            box, cls = targets.boxes_xyxy[b, m], targets.classes[b, m]
            fits = []
            for a, (x, y) in enumerate(centres.tolist()):
                if box[0] < x < box[2] and box[1] < y < box[3]:
                    overlap = ciou(predicted[b, a], box).clamp(min=0).item()
                    fits.append((scores[b, a, cls].item() ** 0.5 * overlap**6, overlap, a))
            for fit, overlap, a in sorted(fits, reverse=True)[:10]:
                if fit > 0 and (a not in taken or taken[a][0] < overlap):
                    taken[a] = (overlap, fit, m)
        for a, (_, fit, m) in taken.items():
            own = [t for t in taken.values() if t[2] == m]
            best_fit, best_overlap = max(t[1] for t in own), max(t[0] for t in own)
            expected[b, a, targets.classes[b, m]] = fit / (best_fit + FIT_EPS) * best_overlap
    return expected


@pytest.mark.parametrize("seed", range(8))
def test_assignment_equals_loops(seed):
    scores, predicted, centres, targets = random_case(seed)
    assigned = assign(scores, predicted, centres, targets)
    got = torch.zeros_like(scores)
    b, a = assigned.is_positive.nonzero(as_tuple=True)
    got[b, a, targets.classes[b, assigned.box_index[b, a]]] = assigned.scores[b, a]
    expected = assign_by_loops(scores, predicted, centres, targets)
    assert (expected > 0).sum() > 10
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_padding_keeps_every_box_with_its_image_in_any_order():
    boxes = torch.arange(20.0).view(5, 4)
    targets = pad_targets(boxes, torch.tensor([4, 3, 2, 1, 0]), torch.tensor([2, 0, 2, 0, 2]), 4)
    assert targets.is_real.sum(1).tolist() == [2, 0, 3, 0]
    assert targets.boxes_xyxy[2].equal(boxes[[0, 2, 4]])
    assert targets.boxes_xyxy[0, :2].equal(boxes[[1, 3]])
    assert targets.classes[2].tolist() == [4, 2, 0]


def test_padding_without_any_box():
    targets = pad_targets(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long(), 3)
    assert targets.boxes_xyxy.shape == (3, 0, 4)


def test_centre_on_the_edge_is_not_inside_and_padding_holds_nothing():
    targets = Targets(
        torch.tensor([[[4.0, 4, 12, 12], [0, 0, 99, 99]]]), torch.zeros(1, 2), torch.tensor([[True, False]])
    )
    inside = centres_inside(torch.tensor([[4.0, 8], [8, 8], [12, 8], [5, 11]]), targets)
    assert inside.tolist() == [[[False, True, False, True], [False] * 4]]


def test_at_most_ten_anchors_per_box_and_none_without_fit():
    fit = torch.zeros(1, 2, 40)
    fit[0, 0, :30] = torch.rand(30) + 0.1
    fit[0, 1, 7] = 0.5
    assert best_anchors(fit).sum(-1).tolist() == [[10, 1]]


def test_anchor_taken_by_many_boxes_goes_to_the_largest_overlap():
    overlap = torch.tensor([[[0.2, 0.9], [0.7, 0.1], [0.9, 0.0]]])
    taken = torch.tensor([[[True, True], [True, True], [False, False]]])
    assert resolve_conflicts(taken, overlap)[0].int().tolist() == [[0, 1], [1, 0], [0, 0]]


def test_fewer_anchors_than_ten():
    scores, predicted, centres, targets = random_case(0, side=2, stride=32)
    assert assign(scores, predicted, centres, targets).is_positive.shape == (2, 4)
