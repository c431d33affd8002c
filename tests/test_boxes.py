"""Boxes against brute force and by their properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_yolo.boxes import (
    anchor_grid,
    box_iou,
    ciou,
    clip_boxes,
    cxcywh_from_xyxy,
    distances_from_bins,
    distances_from_xyxy,
    xyxy_from_cxcywh,
    xyxy_from_distances,
)

coordinate = st.integers(0, 20)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
boxes = st.lists(box, max_size=6).map(lambda rows: torch.tensor(rows, dtype=torch.float64).reshape(-1, 4))


def cells(box):
    return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}


@settings(deadline=None)
@given(boxes, boxes)
def test_iou_equals_counting_cells(a, b):
    got = box_iou(a, b)
    assert got.shape == (len(a), len(b))
    for i, cells_a in enumerate(map(cells, a)):
        for j, cells_b in enumerate(map(cells, b)):
            union = len(cells_a | cells_b)
            expected = len(cells_a & cells_b) / union if union else 0
            assert got[i, j].item() == pytest.approx(expected)


@settings(deadline=None)
@given(boxes)
def test_formats_round_trip(a):
    torch.testing.assert_close(xyxy_from_cxcywh(cxcywh_from_xyxy(a)), a)


def test_format_by_hand():
    assert cxcywh_from_xyxy(torch.tensor([[2.0, 4, 8, 6]])).tolist() == [[5, 5, 6, 2]]


@settings(deadline=None)
@given(boxes, st.integers(1, 15), st.integers(1, 15))
def test_clipped_boxes_lie_inside(a, height, width):
    got = clip_boxes(a - 5, height, width)
    for row, clipped in zip(a - 5, got, strict=True):
        x = [min(max(v, 0), width) for v in (row[0], row[2])]
        y = [min(max(v, 0), height) for v in (row[1], row[3])]
        assert clipped.tolist() == [x[0], y[0], x[1], y[1]]


def ciou_by_hand(a, b):
    """The definition with plain numbers."""
    overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    (wa, ha), (wb, hb) = ((r[2] - r[0], r[3] - r[1]) for r in (a, b))
    iou = overlap / (wa * ha + wb * hb - overlap)
    distance = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(wa / ha) - math.atan(wb / hb)) ** 2
    alpha = v / (1 - iou + v) if v else 0
    return iou - distance / diagonal - alpha * v


solid_box = st.tuples(coordinate, coordinate, st.integers(1, 20), st.integers(1, 20)).map(
    lambda c: (float(c[0]), float(c[1]), float(c[0] + c[2]), float(c[1] + c[3]))
)


@settings(deadline=None)
@given(solid_box, solid_box)
def test_ciou_equals_the_definition(a, b):
    got = ciou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).item()
    assert got == pytest.approx(ciou_by_hand(a, b), abs=1e-5)


def test_ciou_of_equal_boxes_is_one_and_of_empty_ones_finite():
    a = torch.tensor([[1.0, 2, 5, 9], [3, 3, 3, 3]], requires_grad=True)
    got = ciou(a, a.detach())
    assert got[0].item() == pytest.approx(1)
    got.sum().backward()
    assert torch.isfinite(a.grad).all()


def test_no_gradient_flows_through_the_weight_of_the_aspect():
    a = torch.tensor([0.0, 0, 4, 2], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.0, 0, 2, 2], dtype=torch.float64)
    ciou(a, b).backward()

    def with_fixed_alpha(corners):
        w, h = corners[2] - corners[0], corners[3] - corners[1]
        v = 4 / math.pi**2 * (torch.atan(w / h) - math.pi / 4) ** 2
        v0 = 4 / math.pi**2 * (math.atan(2) - math.pi / 4) ** 2
        overlap = 4 / (w * h)  # b lies inside a
        hull = w**2 + h**2
        centre = ((corners[0] + corners[2] - 2) ** 2 + (corners[1] + corners[3] - 2) ** 2) / 4
        return overlap - centre / hull - v0 / (1 - 0.5 + v0) * v

    nudged = torch.tensor([0.0, 0, 4 + 1e-6, 2], dtype=torch.float64)
    slope = (with_fixed_alpha(nudged) - with_fixed_alpha(a.detach())) / 1e-6
    assert a.grad[2].item() == pytest.approx(slope.item(), abs=1e-4)


def test_anchor_grid_runs_row_major_level_by_level():
    centres, strides = anchor_grid([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)], (8, 16))
    assert centres.tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5], [0.5, 0.5]]
    assert strides.flatten().tolist() == [8] * 6 + [16]


def test_distances_round_trip():
    centres = torch.rand(7, 2)
    distances = torch.rand(3, 7, 4)
    torch.testing.assert_close(distances_from_xyxy(centres, xyxy_from_distances(centres, distances)), distances)


def test_distances_are_expectations_over_the_bins():
    bins = torch.full((4, 16), -1e4)
    for side, cell in enumerate((0, 3, 15, 7)):
        bins[side, cell] = 1e4
    torch.testing.assert_close(distances_from_bins(bins.flatten()), torch.tensor([0.0, 3, 15, 7]))
    assert distances_from_bins(torch.zeros(64)).tolist() == pytest.approx([7.5] * 4)
