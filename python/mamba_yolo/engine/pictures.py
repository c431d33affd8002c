"""Pictures of a run, under the names YOLO users look for: labels, first batches, validation, curves, confusion.

Batches need Pillow only; curves need matplotlib, and without it one line says how to get it.
Test: tests/engine/test_pictures.py.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.matches import CONFIDENCES
from mamba_yolo.engine.recorder import read_rows
from mamba_yolo.errors import MissingPackageError, SaveError
from mamba_yolo.ops import rle_part
from mamba_yolo.visual import plots
from mamba_yolo.visual.draw import draw_detections, draw_polygons, grid
from mamba_yolo.visual.write import write_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mamba_yolo.engine.callbacks import Run
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.engine.progress import Reporter
    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.types import Batch

SHOWN_CONF = 0.25  # predictions below it are not drawn
MOST_IMAGES = 16  # of a batch
CELL_PX = 480


class Pictures(Callback):
    """Draws a run into its folder."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.run: Run | None = None
        self.matplotlib_missing = False
        self.validation_drawn = False
        self.last_validation: tuple[Batch, list[npt.NDArray[np.float32]], list[list[Rle]] | None] | None = None

    def on_run_start(self, run: Run) -> None:
        """Label statistics."""
        self.run = run
        self._plot(plots.label_statistics, run.classes, run.boxes_xywh_norm, run.names, run.folder / "labels.jpg")

    def on_batch(self, index: int, batch: Batch) -> None:
        """Training images as the network sees them, with their boxes."""
        assert self.run is not None  # on_run_start comes first
        self._save(draw_batch(batch, self.run.names), f"train_batch{index}.jpg")

    def on_validation_batch(
        self, batch: Batch, detections: list[npt.NDArray[np.float32]], masks: list[list[Rle]] | None
    ) -> None:
        """The first validation is drawn at once, later ones at the end."""
        self.last_validation = (batch, detections, masks)
        if not self.validation_drawn:
            self.validation_drawn = True
            self._draw_validation()

    def on_run_end(self, folder: Path, metrics: Metrics) -> None:
        """Predictions of the best weights, curves, confusion."""
        self._draw_validation()
        self._plot(plots.results_curves, _columns(folder / "results.csv"), folder / "results.png")
        self.draw_figures(folder, metrics)

    def draw_figures(self, folder: Path, metrics: Metrics) -> None:
        """Confusion, and precision, recall and F1 by confidence."""
        names = {i: row.name for i, row in enumerate(metrics.per_class)}
        for normalized, file in ((False, "confusion_matrix.png"), (True, "confusion_matrix_normalized.png")):
            self._plot(plots.confusion_matrix, metrics.confusion, names, folder / file, normalized=normalized)
        known = np.array([row.instances > 0 for row in metrics.per_class])[:, None]
        for kind, of_kind in (("Box", metrics), ("Mask", metrics.seg)):
            for file, x, y, x_label, y_label, what, value in _curves(of_kind) if of_kind else ():
                shown, mean = np.where(known, y, np.nan), f"mean, {what} {value:.3f}"
                self._plot(
                    plots.class_curves, x, shown, names, folder / f"{kind}{file}",
                    x_label=x_label, y_label=y_label, mean_label=mean,
                )  # fmt: skip

    def _draw_validation(self) -> None:
        if self.last_validation is None:
            return
        batch, detections, masks = self.last_validation
        assert self.run is not None  # on_run_start comes first
        self._save(draw_batch(batch, self.run.names), "val_batch0_labels.jpg")
        self._save(draw_found(batch, detections, masks, self.run.names), "val_batch0_pred.jpg")

    def _save(self, sheet: npt.NDArray[np.uint8], file: str) -> None:
        """Write a sheet into the run folder."""
        assert self.run is not None  # on_run_start comes first
        try:
            write_picture(sheet, self.run.folder / file)
        except OSError as error:
            raise SaveError(f"cannot write {self.run.folder / file}: {error}; free space, or --plots false") from error

    def _plot(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Draw with matplotlib; where it is missing, say so once."""
        if self.matplotlib_missing:
            return
        try:
            function(*args, **options)
        except MissingPackageError as error:
            self.matplotlib_missing = True
            self.reporter.say(str(error))
        except OSError as error:
            raise SaveError(f"cannot write a picture of the run: {error}; free space, or --plots false") from error


def _curves(metrics: Metrics) -> list[tuple[str, npt.NDArray[Any], npt.NDArray[Any], str, str, str, float]]:
    """File, x, y, what they are, and what the mean curve is worth."""
    x, label, (precision, recall, f1) = CONFIDENCES, "confidence", metrics.curves
    return [
        ("PR_curve.png", np.linspace(0, 1, 101), metrics.precision50, "recall", "precision", "AP50", metrics.map50),
        ("P_curve.png", x, precision, label, "precision", "P", metrics.precision),
        ("R_curve.png", x, recall, label, "recall", "R", metrics.recall),
        ("F1_curve.png", x, f1, label, "F1", "F1", metrics.f1),
    ]


def draw_batch(batch: Batch, names: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """One sheet of the first images of a batch as the network sees them, with their boxes and polygons."""
    images = batch.images[:MOST_IMAGES].permute(0, 2, 3, 1).contiguous().numpy()
    side = np.array(images.shape[2:0:-1], np.float32)
    drawn = []
    for k, (image, rows) in enumerate(zip(images, _true_rows(batch), strict=False)):
        mine = (batch.batch_index == k).nonzero().flatten().tolist() if batch.segments else []
        polygons = [[ring.numpy() * side for ring in batch.segments.of(i)] for i in mine]  # type: ignore[union-attr]
        tinted = draw_polygons(image, polygons, rows[: len(mine), 5])
        drawn.append(draw_detections(tinted, rows[:, :4], rows[:, 5], None, names))
    return grid(drawn, cell=(CELL_PX, CELL_PX))


def draw_found(
    batch: Batch,
    detections: Sequence[npt.NDArray[np.float32]],
    masks: Sequence[Sequence[Rle]] | None,
    names: Mapping[int, str],
) -> npt.NDArray[np.uint8]:
    """One sheet of the first images of a batch with the surer of their detections, masks included."""
    images = batch.images[:MOST_IMAGES].permute(0, 2, 3, 1).contiguous().numpy()
    drawn = []
    for k, (image, rows) in enumerate(zip(images, detections, strict=False)):
        sure = rows[:, 4] >= SHOWN_CONF
        parts = () if masks is None else map(rle_part, itertools.compress(masks[k], sure))
        shown = rows[sure]
        drawn.append(draw_detections(image, shown[:, :4], shown[:, 5], shown[:, 4], names, parts))
    return grid(drawn, cell=(CELL_PX, CELL_PX))


def _true_rows(batch: Batch) -> list[npt.NDArray[np.float32]]:
    """Targets of a batch as (n, 6) rows per image: x1 y1 x2 y2 in network pixels, 1, class."""
    height, width = batch.images.shape[2:]
    boxes = batch.boxes_cxcywh_norm.numpy() * np.array([width, height, width, height], np.float32)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    rows = np.concatenate([corners, np.ones((len(boxes), 1)), batch.classes.numpy()[:, None]], axis=1)
    owner = batch.batch_index.numpy()
    return [rows[owner == i].astype(np.float32) for i in range(len(batch.images))]


def _columns(csv_path: Path) -> dict[str, list[float]]:
    """Columns of results.csv; NaN where an epoch has no figure."""
    rows = read_rows(csv_path)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, float("nan")) for row in rows] for name in names}
