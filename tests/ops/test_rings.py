"""Masks to polygons and back: both backends the same, and the mask again by two rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from pycocotools import mask as coco

from mamba_yolo.errors import DataError
from mamba_yolo.ops import encode_rle, polygons_from_rle
from ops.test_masks import backends, some_masks, theirs


def even_odd(ring, height, width):
    """Pixels whose centre a ray to the left leaves after an odd number of edges."""
    inside = np.zeros((height, width), bool)
    x = np.arange(width) + 0.5
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        for y in range(height):
            if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                inside[y] ^= x > x0 + (y + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    return inside


@backends
@given(some_masks())
@settings(max_examples=80, deadline=None)
def test_polygons_give_the_mask_again_by_both_rules(backend, masks):
    (mask,) = masks
    rings = [ring.numpy() for ring in polygons_from_rle(encode_rle(mask), backend=backend)]
    painted = np.zeros(mask.shape, int)
    for ring in rings:
        painted += even_odd(ring, *mask.shape)
    np.testing.assert_array_equal(painted, mask.numpy())  # no pixel twice
    if rings:
        flat = [ring.ravel().tolist() for ring in rings]
        merged = coco.merge(coco.frPyObjects(flat, *mask.shape))
        assert merged["counts"].decode() == theirs(mask)["counts"]


@given(some_masks())
@settings(max_examples=60, deadline=None)
def test_rust_equals_the_definition(masks):
    rle = encode_rle(masks[0])
    ours, expected = polygons_from_rle(rle, backend="rust"), polygons_from_rle(rle, backend="reference")
    assert [ring.tolist() for ring in ours] == [ring.tolist() for ring in expected]


@backends
def test_holes_are_cut_open_and_areas_are_those_of_the_mask(backend):
    mask = torch.zeros(9, 12, dtype=torch.bool)
    mask[1:8, 1:8] = True
    mask[3:6, 3:6] = False
    mask[4, 4] = True  # an island in the hole
    mask[2:5, 9:11] = True
    rings = [ring.double() for ring in polygons_from_rle(encode_rle(mask), backend=backend)]
    x, y = zip(*(ring.T for ring in rings), strict=True)
    areas = [float((a * b.roll(-1) - b * a.roll(-1)).sum() / 2) for a, b in zip(x, y, strict=True)]
    assert areas == [40.0, 6.0, 1.0]
    assert [len(ring) for ring in rings] == [12, 4, 4]


@backends
def test_a_long_chain_of_holes(backend):
    mask = torch.ones(401, 3, dtype=torch.bool)
    mask[1::2, 1] = False
    (ring,) = polygons_from_rle(encode_rle(mask), backend=backend)
    assert even_odd(ring.numpy(), 401, 3).tolist() == mask.tolist()


@backends
def test_damaged_masks_are_refused(backend):
    with pytest.raises(DataError, match="must sum to 2 x 2"):
        polygons_from_rle({"size": [2, 2], "counts": [1, 2]}, backend=backend)
    assert polygons_from_rle({"size": [2, 2], "counts": [4]}, backend=backend) == []
    assert polygons_from_rle({"size": [0, 2], "counts": [0]}, backend=backend) == []
