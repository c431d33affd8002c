"""Masks: definition and Rust against pycocotools bit for bit, and damaged input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from mamba_yolo.errors import DataError
from mamba_yolo.ops import decode_rle, encode_rle, merge_rle, polygons_to_masks, rle_area, rle_from_polygon

backends = pytest.mark.parametrize("backend", ["reference", "rust"])


def theirs(mask):
    rle = coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@st.composite
def some_masks(draw, number=1):
    height, width, seed = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 2**31))
    rng = torch.Generator().manual_seed(seed)
    density = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    return [torch.rand(height, width, generator=rng) < density for _ in range(number)]


@backends
@given(some_masks())
@settings(max_examples=60, deadline=None)
def test_encode_and_decode_equal_pycocotools(backend, masks):
    (mask,) = masks
    rle = encode_rle(mask, backend=backend)
    assert rle == theirs(mask)
    assert torch.equal(decode_rle(rle, backend=backend), mask.to(torch.uint8))
    assert rle_area(rle, backend=backend) == int(coco.area(rle | {"counts": rle["counts"].encode()}))


@backends
@given(some_masks(number=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_merge_equals_pycocotools(backend, masks, intersect):
    rles = [theirs(mask) for mask in masks]
    merged = coco.merge([r | {"counts": r["counts"].encode()} for r in rles], intersect)
    assert merge_rle(rles, intersect=intersect, backend=backend)["counts"] == merged["counts"].decode()


quarters = st.integers(-40, 200).map(lambda v: v / 4)  # halves of the fine grid are hit, and the outside
points = st.tuples(quarters | st.floats(-10, 50), quarters | st.floats(-10, 50))


@backends
@given(st.lists(points, min_size=3, max_size=9), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_polygons_equal_pycocotools(backend, polygon, height, width):
    flat = [v for point in polygon for v in point]
    (expected,) = coco.frPyObjects([flat], height, width)
    assert rle_from_polygon(polygon, height, width, backend=backend)["counts"] == expected["counts"].decode()


@backends
def test_masks_at_a_quarter_are_unions_of_scaled_polygons(backend):
    rng = torch.Generator().manual_seed(0)
    objects = [[torch.rand(5, 2, generator=rng, dtype=torch.float64) * 160 for _ in range(2)] for _ in range(3)]
    masks = polygons_to_masks(objects, 40, 48, scale=0.25, backend=backend)
    for mask, polygons in zip(masks, objects, strict=True):
        expected = coco.merge(coco.frPyObjects([(p * 0.25).flatten().tolist() for p in polygons], 40, 48))
        assert torch.equal(mask, decode_rle(expected, backend="reference"))
    assert polygons_to_masks([], 40, 48, backend=backend).shape == (0, 40, 48)
    assert polygons_to_masks([[]], 4, 5, backend=backend).sum() == 0


@backends
def test_a_list_of_runs_and_bytes_are_read(backend):
    expected = torch.tensor([[0, 1, 1], [1, 1, 0]], dtype=torch.uint8)
    counts = [1, 4, 1]
    assert torch.equal(decode_rle({"size": [2, 3], "counts": counts}, backend=backend), expected)
    compressed = encode_rle(expected, backend=backend)["counts"].encode()
    assert torch.equal(decode_rle({"size": [2, 3], "counts": compressed}, backend=backend), expected)
    assert rle_area({"size": [2, 3], "counts": np.array(counts)}, backend=backend) == 4


@backends
@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 3], "counts": [1, -4, 9]}, "negative or too long"),
        ({"size": [2, 3], "counts": [1, 2**40]}, "negative or too long"),
        ({"size": [2, 3], "counts": [1, 4]}, "must sum to 2 x 3, got 5"),
        ({"size": [2, 3], "counts": [4294967295, 4294967295]}, "must sum to 2 x 3"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "too long"),
        ({"size": [10**6, 10**6], "counts": [1]}, "limit of 178956970 pixels"),
        ({"size": [10**30, 1], "counts": [1]}, "limit of 178956970 pixels"),
        ({"size": [-2, -3], "counts": [6]}, "limit"),
        ({"size": [2], "counts": [6]}, r"size \[height, width\]"),
        ({"counts": [6]}, r"size \[height, width\]"),
        ({"size": [2, 3], "counts": None}, r"size \[height, width\]"),
        ({"size": [2, 3], "counts": ["a"]}, r"size \[height, width\]"),
        ({"size": [2, 3], "counts": "6\x7f"}, "character 127"),
        ({"size": [2, 3], "counts": "oooooooooooo"}, "too many characters"),
        ({"size": [2, 3], "counts": "6o"}, "ends within a number"),
        ({"size": [2, 3], "counts": "O"}, "negative or too long"),
        ({"size": [2, 3], "counts": "é"}, "character"),
        ({"size": [2, 3], "counts": b"\xff"}, r"size \[height, width\]"),
        ({"size": [2, 3], "counts": ""}, "must sum to 2 x 3, got 0"),
    ],
)
@pytest.mark.parametrize("read", [decode_rle, rle_area, lambda rle, backend: merge_rle([rle, rle], backend=backend)])
def test_damaged_runs_are_refused(backend, rle, message, read):
    with pytest.raises(DataError, match=message):
        read(rle, backend=backend)


@backends
@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([[0, 0], [1, 1]], "3 points or more, got 2"),
        ([[0, 0, 0]] * 3, r"shape \(k, 2\), got \(3, 3\)"),
        ("abc", "must be"),
        ([[0, 0], [1, float("nan")], [3, 3]], "65536"),
        ([[0, 0], [1, 1e300], [3, 3]], "65536"),
        ([[0, 0], [float("-inf"), 1], [3, 3]], "65536"),
    ],
)
def test_bad_polygons_are_refused(backend, polygon, message):
    with pytest.raises(DataError, match=message):
        rle_from_polygon(polygon, 10, 10, backend=backend)
    with pytest.raises(DataError, match=message):
        polygons_to_masks([[polygon]], 10, 10, backend=backend)


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match=r"shape \(H, W\), got \(2, 2, 2\)"):
        encode_rle(torch.zeros(2, 2, 2))
    with pytest.raises(DataError, match="one or more of one size"):
        merge_rle([{"size": [1, 1], "counts": [1]}, {"size": [1, 2], "counts": [2]}])
    with pytest.raises(DataError, match="one or more of one size"):
        merge_rle([])
    with pytest.raises(DataError, match="limit"):
        polygons_to_masks([[[[0, 0], [1, 1], [2, 0]]]], 10**6, 10**6)
