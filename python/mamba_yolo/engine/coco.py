"""COCO evaluation: a small, silent adapter over faster-coco-eval, equal to pycocotools to the last digits.

Takes COCO dictionaries, returns the twelve figures, figures per category and the IoU tables that the evaluator used.
-1 stands where there is no ground truth. Test: tests/engine/test_coco.py (goldens, pycocotools on random data).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
MAX_DETECTIONS = 100  # per image and category: what the last of COCO's three limits keeps
NO_TRUTH = -1.0
ALL_AREAS, LAST_LIMIT = 0, -1  # indices into the precision table


@dataclass(frozen=True)
class CocoFigures:
    """Outcome of one evaluation.

    Attributes:
        summary: `FIGURES` by name, -1 without ground truth.
        category_ids: categories in the order of the arrays below.
        ap: AP over IoU 0.50 to 0.95 per category, -1 without ground truth.
        ap50: the same at IoU 0.50.
        precision50: (categories, 101) precision at IoU 0.50 by recall 0, 0.01 … 1.
        ious: (image id, category id) → table of detections by falling score × ground truth; empty without a pair.
    """

    summary: dict[str, float]
    category_ids: list[int]
    ap: npt.NDArray[np.float64]
    ap50: npt.NDArray[np.float64]
    precision50: npt.NDArray[np.float64]
    ious: Mapping[tuple[int, int], Any]


def evaluate_coco(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: Literal["bbox", "segm"] = "bbox",
    *,
    by_category: bool = True,
) -> CocoFigures:
    """Evaluate COCO results against COCO ground truth.

    Args:
        truth: images, annotations and categories; annotation ids start at 1 (0 means unmatched inside COCO).
        results: image_id, category_id, score, and bbox (xywh) or segmentation (RLE).
        iou_type: boxes or masks.
        by_category: False matches across categories (class-agnostic).
    """
    # The evaluator writes into what it is given.
    from faster_coco_eval import COCO, COCOeval_faster

    index = COCO({**truth, "annotations": [dict(a) for a in truth["annotations"]]})
    evaluator = COCOeval_faster(index, index.loadRes([dict(r) for r in results]), iou_type)
    evaluator.params.useCats = int(by_category)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    precision = np.asarray(evaluator.eval["precision"])[..., ALL_AREAS, LAST_LIMIT]  # (IoU thresholds, recalls, K)
    return CocoFigures(
        summary=dict(zip(FIGURES, map(float, evaluator.stats), strict=True)),
        category_ids=[int(c) for c in evaluator.params.catIds] if by_category else [-1],
        ap=_mean_where_known(precision),
        ap50=_mean_where_known(precision[:1]),
        precision50=precision[0].T,
        ious=evaluator.ious,
    )


def _mean_where_known(precision: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over thresholds and recalls per category, leaving out the -1 of cells without ground truth."""
    known = precision > NO_TRUTH
    count = known.sum(axis=(0, 1))
    total = np.where(known, precision, 0.0).sum(axis=(0, 1))
    return np.where(count > 0, total / np.maximum(count, 1), NO_TRUTH)
