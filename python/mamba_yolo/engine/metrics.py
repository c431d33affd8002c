"""Figures of a validation: COCO AP and AR, precision, recall and F1 at the best confidence, confusion matrix.

One matching serves all of them. A class without ground truth has -1 and counts in no mean, as in COCO. A detection
that is not a number is an error, never an AP of 0. Test: tests/engine/test_metrics.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mamba_yolo.engine.coco import FIGURES, NO_TRUTH, evaluate_coco
from mamba_yolo.engine.matches import (
    CONFIDENCES,
    Curves,
    Truth,
    confidence_curves,
    confusion_matrix,
    count_instances,
    match_image,
)
from mamba_yolo.engine.verdicts import judge
from mamba_yolo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from mamba_yolo.engine.coco import CocoFigures
    from mamba_yolo.engine.verdicts import Verdict
    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.types import Sample

MAP50_WEIGHT, MAP50_95_WEIGHT = 0.1, 0.9  # of the fitness that picks the best epoch
COLUMNS = {"precision": "precision", "recall": "recall", "map50": "mAP50", "map50_95": "mAP50-95"}  # of results.csv


class ClassFigures(NamedTuple):
    """One row of the table; -1 without ground truth."""

    name: str
    images: int
    instances: int
    precision: float
    recall: float
    f1: float
    ap50: float
    ap50_95: float


@dataclass(frozen=True)
class Metrics:
    """Everything a validation says.

    Attributes:
        coco: the twelve COCO figures by name; -1 without ground truth.
        precision: mean over the classes with ground truth, at `confidence`.
        recall: the same.
        f1: the same.
        confidence: where the mean F1 is largest.
        per_class: one row per class of the data set.
        confusion: (nc + 1, nc + 1), rows predicted, columns true, background last, at `confidence`.
        images: images validated.
        instances: objects in them.
        speed_ms: milliseconds per image by phase.
        losses: box, cls and dfl of the validation, where asked for.
        curves: P, R, F1 by confidence; (nc, 1001) each.
        precision50: (nc, 101) precision at IoU 0.5 by recall.
        verdicts: what was found, missed and false on each image, at `confidence`.
        seg: the figures of masks in the place of boxes, of a model that finds them.
    """

    coco: dict[str, float]
    precision: float
    recall: float
    f1: float
    confidence: float
    per_class: list[ClassFigures]
    confusion: npt.NDArray[np.int64] = field(repr=False, compare=False)
    images: int
    instances: int
    curves: Curves = field(repr=False, compare=False)
    precision50: npt.NDArray[np.float64] = field(repr=False, compare=False)
    speed_ms: dict[str, float] = field(default_factory=dict, compare=False)
    losses: dict[str, float] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list, repr=False, compare=False)
    seg: Metrics | None = None

    @property
    def map50_95(self) -> float:
        """Mean AP over IoU 0.50 to 0.95."""
        return self.coco["AP"]

    @property
    def map50(self) -> float:
        """Mean AP at IoU 0.50."""
        return self.coco["AP50"]

    @property
    def map75(self) -> float:
        """Mean AP at IoU 0.75."""
        return self.coco["AP75"]

    @property
    def fitness(self) -> float:
        """What the best epoch has most of: 0.1 AP50 + 0.9 AP, that of masks added; 0 without ground truth."""
        own = MAP50_WEIGHT * max(self.map50, 0.0) + MAP50_95_WEIGHT * max(self.map50_95, 0.0)
        return own + (self.seg.fitness if self.seg else 0.0)

    def figures(self) -> dict[str, float]:
        """The headline figures, as stored beside weights; those of masks begin with mask_."""
        own = {name: float(getattr(self, name)) for name in COLUMNS}
        return own | ({f"mask_{name}": value for name, value in self.seg.figures().items()} if self.seg else {})

    def columns(self) -> dict[str, float]:
        """The headline figures under the names of results.csv: (B) of boxes, (M) of masks."""
        kinds = {"B": self} | ({"M": self.seg} if self.seg else {})
        return {
            f"metrics/{column}({kind})": float(getattr(metrics, name))
            for kind, metrics in kinds.items()
            for name, column in COLUMNS.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where there is no ground truth."""
        return {
            **{k: _known(v) for k, v in self.figures().items()},
            "map75": _known(self.map75),
            "f1": _known(self.f1),
            "confidence": self.confidence,
            "fitness": self.fitness,
            "images": self.images,
            "instances": self.instances,
            "coco": {name: _known(value) for name, value in self.coco.items()},
            "per_class": [
                {k: _known(v) if isinstance(v, float) else v for k, v in row._asdict().items()}
                for row in self.per_class
            ],
            "confusion": self.confusion.tolist(),
            "speed_ms": self.speed_ms,
            "losses": self.losses,
            **({"seg": self.seg.to_dict()} if self.seg else {}),
        }


def truth_of(sample: Sample) -> Truth:
    """Ground truth of a sample; the area is that of the polygons where there are any, as in COCO, else of the box."""
    boxes = sample.boxes_xyxy.astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i, polygons in enumerate(sample.segments or []):
        if polygons:
            areas[i] = sum(_polygon_area(p) for p in polygons)
    return Truth(sample.boxes_xyxy, sample.classes, sample.is_crowd, areas)


class MaskPairs(NamedTuple):
    """Run lengths per image of the objects and of the detections, in their order."""

    true: Sequence[Sequence[Rle]]
    found: Sequence[Sequence[Rle]]


def evaluate(
    truths: Sequence[Truth],
    detections: Sequence[npt.NDArray[np.float32]],
    names: Mapping[int, str],
    masks: MaskPairs | None = None,
) -> Metrics:
    """Compare detections with ground truth, image by image.

    Args:
        truths: objects per image.
        detections: (n, 6) rows x1 y1 x2 y2 score class per image, pixels of the original image.
        names: class names by number 0..nc-1.
        masks: what is compared in the place of boxes.

    Raises:
        TrainingError: a detection is not finite.
    """
    for i, rows in enumerate(detections):
        if not np.isfinite(rows).all():
            raise TrainingError(f"image {i}: detections hold NaN or infinity: the weights are damaged")
    nc = len(names)
    truth, results = _coco_truth(truths, nc), _coco_results(detections)
    if masks is not None:
        _put_masks(truth, results, masks)
    figures = evaluate_coco(truth, results, "bbox" if masks is None else "segm")
    matches = [match_image(i + 1, t, d, figures) for i, (t, d) in enumerate(zip(truths, detections, strict=True))]
    curves = confidence_curves(truths, detections, matches, nc)
    instances = count_instances(truths, nc)
    present = instances > 0
    best = int(curves.f1[present].mean(axis=0).argmax()) if present.any() else 0
    at_best = [np.where(present, curve[:, best], NO_TRUTH) for curve in curves]
    means = [float(values[present].mean()) if present.any() else NO_TRUTH for values in at_best]
    confidence = float(CONFIDENCES[best])
    return Metrics(
        coco={name: figures.summary[name] for name in FIGURES},
        precision=means[0],
        recall=means[1],
        f1=means[2],
        confidence=confidence,
        per_class=_class_rows(truths, names, at_best, figures),
        confusion=confusion_matrix(truths, detections, matches, nc, confidence=confidence),
        images=len(truths),
        instances=int(instances.sum()),
        curves=curves,
        precision50=figures.precision50,
        verdicts=judge(truths, detections, matches, confidence),
    )


def _class_rows(
    truths: Sequence[Truth],
    names: Mapping[int, str],
    at_best: Sequence[npt.NDArray[np.float64]],
    figures: CocoFigures,
) -> list[ClassFigures]:
    """Table by class; `at_best` is precision, recall and F1 per class at the best confidence."""
    instances = count_instances(truths, len(names))
    return [
        ClassFigures(
            name=names[c],
            images=sum(bool(((t.classes == c) & ~t.is_crowd).any()) for t in truths),
            instances=int(instances[c]),
            precision=float(at_best[0][c]),
            recall=float(at_best[1][c]),
            f1=float(at_best[2][c]),
            ap50=float(figures.ap50[c]),
            ap50_95=float(figures.ap[c]),
        )
        for c in range(len(names))
    ]


def _coco_truth(truths: Sequence[Truth], nc: int) -> dict[str, Any]:
    """COCO dictionary with image ids and category ids that count from 1."""
    annotations = [
        {"image_id": i + 1, "category_id": int(c) + 1, "bbox": box, "area": float(area), "iscrowd": int(crowd)}
        for i, t in enumerate(truths)
        for box, c, crowd, area in zip(_xywh(t.boxes_xyxy), t.classes, t.is_crowd, t.areas, strict=True)
    ]
    return {
        "images": [{"id": i + 1} for i in range(len(truths))],
        "annotations": [{"id": n + 1, **a} for n, a in enumerate(annotations)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(nc)],
    }


def _coco_results(detections: Sequence[npt.NDArray[np.float32]]) -> list[dict[str, Any]]:
    return [
        {"image_id": i + 1, "category_id": int(row[5]) + 1, "bbox": box, "score": float(row[4])}
        for i, rows in enumerate(detections)
        for box, row in zip(_xywh(rows[:, :4]), rows, strict=True)
    ]


def _put_masks(truth: dict[str, Any], results: list[dict[str, Any]], masks: MaskPairs) -> None:
    """Give every annotation and result its mask; a result has its mask alone, which says how large it is."""
    for annotation, rle in zip(truth["annotations"], itertools.chain(*masks.true), strict=True):
        annotation["segmentation"] = rle
    for result, rle in zip(results, itertools.chain(*masks.found), strict=True):
        result["segmentation"] = rle
        del result["bbox"]
    for image, rles in zip(truth["images"], masks.true, strict=True):
        image["height"], image["width"] = rles[0]["size"] if rles else (1, 1)


def _xywh(boxes_xyxy: npt.NDArray[np.float32]) -> list[list[float]]:
    boxes = boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()  # type: ignore[no-any-return]


def _polygon_area(points_xy: npt.NDArray[np.float32]) -> float:
    x, y = points_xy.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _known(value: float) -> float | None:
    return None if value == NO_TRUTH else value
