"""Which detection found which object at IoU 0.5, by COCO's own rule, and what follows from it.

Detections of an image and class, best first, each take the free object of largest IoU; a detection that only overlaps a
crowd region counts as nothing. Because matching goes by falling score, the matches above any confidence are a part of
all matches: precision, recall, F1 at every confidence and the confusion matrix come from one list.
Test: tests/engine/test_metrics.py (AP50 recomputed from these matches equals the evaluator's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from mamba_yolo.boxes import box_iou
from mamba_yolo.engine.coco import MAX_DETECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mamba_yolo.engine.coco import CocoFigures

IOU_THR = 0.5
UNMATCHED, CROWD = -1, -2
CONFIDENCES = np.linspace(0.0, 1.0, 1001)


class Truth(NamedTuple):
    """Objects of one image: (n, 4) xyxy pixels, (n,) class, (n,) crowd flag, (n,) area in pixels."""

    boxes_xyxy: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    is_crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]


class ImageMatches(NamedTuple):
    """Detections of one image that COCO looks at, best first within each class.

    Attributes:
        rows: (m,) rows of the image's detections.
        found: (m,) object that each found, or UNMATCHED, or CROWD.
    """

    rows: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]


class Curves(NamedTuple):
    """(classes, 1001) values at `CONFIDENCES`."""

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]


def match_image(image_id: int, truth: Truth, detections: npt.NDArray[np.float32], figures: CocoFigures) -> ImageMatches:
    """Match the (n, 6) detections of one image, with the IoU tables of the evaluator (category id = class + 1)."""
    rows_all, found_all = [], []
    for c in np.unique(detections[:, 5]).astype(np.int64):
        rows = np.flatnonzero(detections[:, 5] == c)
        table = figures.ious.get((image_id, int(c) + 1), [])
        rows = rows[np.argsort(-detections[rows, 4], kind="stable")][:MAX_DETECTIONS]
        found = np.full(len(rows), UNMATCHED)
        if len(table):
            objects = np.flatnonzero(truth.classes == c)
            found = _match(np.asarray(table), truth.is_crowd[objects])
            found[found >= 0] = objects[found[found >= 0]]
        rows_all.append(rows)
        found_all.append(found)
    empty = [np.zeros(0, np.int64)]
    return ImageMatches(np.concatenate(rows_all or empty), np.concatenate(found_all or empty))


def confidence_curves(
    truths: Sequence[Truth], detections: Sequence[npt.NDArray[np.float32]], matches: Sequence[ImageMatches], nc: int
) -> Curves:
    """Precision, recall and F1 per class at every confidence; precision is 0 where nothing is that confident."""
    instances = count_instances(truths, nc)
    kept = [m.found != CROWD for m in matches]
    rows = [d[m.rows[k]] for d, m, k in zip(detections, matches, kept, strict=True)]
    flat = np.concatenate([*rows, np.zeros((0, 6), np.float32)])
    hits = np.concatenate([*(m.found[k] >= 0 for m, k in zip(matches, kept, strict=True)), np.zeros(0, bool)])
    curves = np.zeros((3, nc, len(CONFIDENCES)))
    for c in range(nc):
        mine = flat[:, 5] == c
        order = np.argsort(-flat[mine, 4], kind="stable")
        scores = flat[mine, 4][order].astype(np.float64)
        true = np.concatenate([[0], np.cumsum(hits[mine][order])])
        above = np.searchsorted(-scores, -CONFIDENCES, side="right")
        curves[0, c] = true[above] / np.maximum(above, 1)
        curves[1, c] = true[above] / max(instances[c], 1)
        curves[2, c] = 2 * true[above] / np.maximum(above + instances[c], 1)
    return Curves(*curves)


def confusion_matrix(
    truths: Sequence[Truth],
    detections: Sequence[npt.NDArray[np.float32]],
    matches: Sequence[ImageMatches],
    nc: int,
    *,
    confidence: float,
) -> npt.NDArray[np.int64]:
    """(nc + 1, nc + 1) counts, rows predicted, columns true, background last, of detections at least this confident.

    The diagonal is the matches; what is left over is paired across classes, best score first, at IoU 0.5.
    """
    counts = np.zeros((nc + 1, nc + 1), np.int64)
    for truth, found_rows, match in zip(truths, detections, matches, strict=True):
        sure = found_rows[match.rows, 4].astype(np.float64) >= confidence  # as the curves compare
        rows, found = match.rows[sure], match.found[sure]
        hits = found[found >= 0]
        np.add.at(counts, (truth.classes[hits], truth.classes[hits]), 1)
        missed = np.setdiff1d(np.flatnonzero(~truth.is_crowd), hits)
        false = rows[found == UNMATCHED]
        false = false[np.argsort(-found_rows[false, 4], kind="stable")]
        pairs = _match(_iou(found_rows[false, :4], truth.boxes_xyxy[missed]), np.zeros(len(missed), bool))
        predicted = found_rows[false, 5].astype(np.int64)
        actual = np.where(pairs >= 0, np.append(truth.classes[missed], nc)[pairs], nc)
        np.add.at(counts, (predicted, actual), 1)
        nothing = np.setdiff1d(np.arange(len(missed)), pairs)
        np.add.at(counts, (nc, truth.classes[missed[nothing]]), 1)
    return counts


def count_instances(truths: Sequence[Truth], nc: int) -> npt.NDArray[np.int64]:
    """Objects per class, crowd regions left out."""
    classes = [t.classes[~t.is_crowd] for t in truths]
    return np.bincount(np.concatenate([*classes, np.zeros(0, np.int64)]), minlength=nc)


def _match(ious: npt.NDArray[Any], is_crowd: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """COCO's greedy rule for a table of detections (best first) × objects."""
    found = np.full(len(ious), UNMATCHED)
    if ious.size == 0:
        return found
    free = ~is_crowd
    for d in np.flatnonzero((ious >= IOU_THR).any(axis=1)):
        close = ious[d] >= IOU_THR
        candidates = np.flatnonzero(close & free)[::-1]  # of equal IoUs the evaluator takes the last
        if len(candidates):
            found[d] = candidates[ious[d, candidates].argmax()]
            free[found[d]] = False
        elif (close & is_crowd).any():
            found[d] = CROWD
    return found


def _iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    table: npt.NDArray[Any] = box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return table
