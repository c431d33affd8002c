"""Masks in validation: ground truth and detections as COCO run lengths, in pixels of the original image.

Polygons are filled by COCO's rule, so a mask is the one pycocotools makes of the same annotation. An object with a box
only cannot be judged: it counts as a crowd region of its box, and what is found there counts neither way.
Test: tests/engine/test_masks.py.

Legend: n objects, H W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mamba_yolo.ops import instance_rles, merge_rle, rle_from_polygon

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from mamba_yolo.engine.ranks import Ranks
    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.types import Sample

DECIMALS = 3  # of coordinates: annotation files have two or three, and float32 is not as exact


class TrueMasks(NamedTuple):
    """Objects of one image: run lengths, and (n,) which of them had a mask; of the others it is the box."""

    rles: list[Rle]
    is_known: npt.NDArray[np.bool_]


def true_masks(sample: Sample, size: tuple[int, int]) -> TrueMasks:
    """Masks of a sample whose picture has (height, width) pixels."""
    polygons = sample.segments or [[] for _ in sample.classes]
    known = np.array([bool(parts) for parts in polygons], np.bool_)
    parts = [of_one or [_corners(box)] for of_one, box in zip(polygons, sample.boxes_xyxy, strict=True)]
    return TrueMasks([_filled(of_one, size) for of_one in parts], known)


def found_masks(
    coefs: Tensor, protos: Tensor, boxes_xyxy: Tensor, letterbox: Tensor, size: tuple[int, int]
) -> list[Rle]:
    """Masks of detections.

    Args:
        coefs: (n, 32).
        protos: (32, H/4, W/4) of the network input.
        boxes_xyxy: (n, 4) pixels of the original image.
        letterbox: (3,) gain, left, top.
        size: (height, width) of the original image.
    """
    gain, left, top = letterbox.tolist()
    return instance_rles(coefs, protos, boxes_xyxy, *size, gain=gain, left=left, top=top)


def masks_of_all(found: dict[int, list[Rle]], ranks: Ranks) -> dict[int, list[Rle]]:
    """Masks of detections by image, of the images of every rank."""
    if ranks.world_size == 1:
        return found
    sizes = [(rles[0]["size"] if rles else [0, 0]) for rles in found.values()]
    mine = [(i, len(rles), *size) for (i, rles), size in zip(found.items(), sizes, strict=True)]
    text = "\n".join(rle["counts"] for rles in found.values() for rle in rles)
    coded = torch.tensor(list(text.encode("ascii")), dtype=torch.uint8)
    of_all: dict[int, list[Rle]] = {}
    table = torch.tensor(mine, dtype=torch.float64).reshape(-1, 4)
    for images, letters in zip(ranks.gather(table), ranks.gather(coded), strict=True):
        counts = iter(bytes(letters.tolist()).decode("ascii").split("\n"))
        for image, number, height, width in images.long().tolist():
            of_all[image] = [{"size": [height, width], "counts": next(counts)} for _ in range(number)]
    return of_all


def _filled(polygons: Sequence[npt.NDArray[np.float32]], size: tuple[int, int]) -> Rle:
    """The union of polygons."""
    return merge_rle([rle_from_polygon(np.round(p.astype(np.float64), DECIMALS), *size) for p in polygons])


def _corners(box_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    x1, y1, x2, y2 = box_xyxy
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
