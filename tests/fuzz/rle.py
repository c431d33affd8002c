"""Masks: damaged run lengths are refused in both backends alike, polygons are filled as pycocotools does."""

from __future__ import annotations

import torch
from pycocotools import mask as coco

from mamba_yolo.errors import DataError
from mamba_yolo.ops import (
    decode_rle,
    encode_rle,
    merge_rle,
    polygons_to_masks,
    rle_area,
    rle_from_polygon,
    rle_outline,
    rle_part,
)

BACKENDS = ("rust", "reference")
HUGE = [0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, -1]


def attempt(rng):
    rng.choice([_runs, _masks, _polygons])(rng)


def _runs(rng):
    """Text and numbers that may or may not be a mask."""
    height, width = (rng.choice(HUGE) if rng.random() < 0.05 else rng.randrange(12) for _ in "hw")
    text = "".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(12)))
    numbers = [rng.choice(HUGE) if rng.random() < 0.1 else rng.randrange(20) for _ in range(rng.randrange(8))]
    if rng.random() < 0.5 and 0 < height * width - sum(numbers) < 200:
        numbers.append(height * width - sum(numbers))
    for counts in (text, text.encode(), numbers):
        rle = {"size": [height, width], "counts": counts}
        for read in (decode_rle, rle_area, rle_outline, _part):
            rust, reference = (_answer(read, rle, backend=b) for b in BACKENDS)
            assert rust == reference, (rle, read, rust, reference)


def _part(rle, backend):
    mask, left, top = rle_part(rle, backend=backend)
    return mask.tolist(), left, top


def _answer(function, *arguments, **options):
    try:
        answer = function(*arguments, **options)
    except DataError:
        return DataError  # backends word it differently
    return answer.tolist() if isinstance(answer, torch.Tensor) else answer


def _masks(rng):
    """There and back, and merged, as pixel by pixel."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    height, width, density = rng.randrange(1, 30), rng.randrange(1, 30), rng.choice([0.0, 0.05, 0.5, 1.0])
    masks = [(torch.rand(height, width, generator=generator) < density).to(torch.uint8) for _ in range(3)]
    rles = [encode_rle(mask) for mask in masks]
    for mask, rle in zip(masks, rles, strict=True):
        assert torch.equal(decode_rle(rle), mask)
        assert rle_area(rle) == int(mask.sum())
    stack = torch.stack(masks).bool()
    assert torch.equal(decode_rle(merge_rle(rles)).bool(), stack.any(0))
    assert torch.equal(decode_rle(merge_rle(rles, intersect=True)).bool(), stack.all(0))


def _polygons(rng):
    """Points inside, outside and on the borders of pixels."""
    height, width = rng.randrange(1, 40), rng.randrange(1, 40)
    value = lambda: rng.choice([rng.uniform(-10, 50), float(rng.randrange(-5, 45)), rng.randrange(-50, 300) / 10])  # noqa: E731
    polygon = [[value(), value()] for _ in range(rng.randrange(3, 10))]
    flat = [v for point in polygon for v in point]
    [expected] = coco.frPyObjects([flat], height, width)
    for backend in BACKENDS:
        assert rle_from_polygon(polygon, height, width, backend=backend)["counts"] == expected["counts"].decode()
    odd = [[rng.choice([v, float("nan"), float("inf"), 1e300, -1e9, 65536.0, 1e-300]) for v in p] for p in polygon]
    for shape in (odd, odd[:2], flat):
        rust, reference = (_answer(polygons_to_masks, [[shape]], height, width, backend=b) for b in BACKENDS)
        assert rust == reference, (shape, rust, reference)
