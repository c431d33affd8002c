"""Curves and statistics as pictures, with matplotlib (the plots extra).

Figures are made without pyplot, so nothing global changes and no window system is needed. Every function writes one
file. Test: tests/visual/test_plots.py.

Legend: N boxes, nc classes, K points of a curve.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mamba_yolo.errors import MissingPackageError
from mamba_yolo.visual.palette import colour_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Array = npt.NDArray[Any]

DPI = 150
MAX_NAMED_CLASSES = 20  # more names than this cannot be read in a legend or on an axis
HEAT_BINS = 64


def results_curves(columns: Mapping[str, Sequence[float]], target: Path, x: str = "epoch") -> Path:
    """Draw every column of a results table over the epochs, one small picture each.

    Args:
        columns: column name to values, as in results.csv; NaN where nothing was measured.
        target: picture to write.
        x: the column of the horizontal axis; it and `time` are not drawn.
    """
    shown = [name for name in columns if name not in (x, "time")]
    wide = min(len(shown), 5) or 1
    figure = _figure(3.2 * wide, 2.6 * max(1, math.ceil(len(shown) / wide)))
    for i, name in enumerate(shown):
        axes = figure.add_subplot(math.ceil(len(shown) / wide), wide, i + 1)
        values = np.asarray(columns[name], np.float64)
        known = np.isfinite(values)  # not every epoch is validated
        over = np.asarray(columns[x])[known]
        axes.plot(over, values[known], marker=".", markersize=3, linewidth=1.4, color=_colour(0))
        axes.set_title(name, fontsize=9)
        _quiet(axes)
    return _write(figure, target)


def label_statistics(classes: Array, boxes_cxcywh_norm: Array, names: Mapping[int, str], target: Path) -> Path:
    """Draw how many boxes each class has, where their centres lie, and how large they are.

    Args:
        classes: (N,) indices.
        boxes_cxcywh_norm: (N, 4) as fractions of the image.
        names: class names.
        target: picture to write.
    """
    figure = _figure(13, 4)
    bars, heat, sizes = (figure.add_subplot(1, 3, i) for i in (1, 2, 3))
    boxes = np.asarray(boxes_cxcywh_norm, np.float64).reshape(-1, 4)
    numbers = sorted(names)
    counts = [int((np.asarray(classes) == number).sum()) for number in numbers]
    bars.bar(range(len(numbers)), counts, color=[_colour(number) for number in numbers])
    if len(numbers) <= MAX_NAMED_CLASSES:
        bars.set_xticks(range(len(numbers)), [names[n] for n in numbers], rotation=90 if len(numbers) > 6 else 0)
    bars.set_title(f"{sum(counts)} boxes in {len(numbers)} classes", fontsize=10)
    image, _, _ = np.histogram2d(boxes[:, 1], boxes[:, 0], bins=HEAT_BINS, range=[[0, 1], [0, 1]])
    heat.imshow(image, extent=(0, 1, 1, 0), cmap="magma", interpolation="bilinear")
    heat.set_title("box centres (x, y)", fontsize=10)
    sizes.scatter(
        boxes[:, 2], boxes[:, 3], s=5, alpha=0.35, c=[_colour(int(c)) for c in np.ravel(classes)], linewidths=0
    )
    sizes.set(xlim=(0, 1), ylim=(0, 1), xlabel="width", ylabel="height")
    sizes.set_title("box sizes (fraction of the image)", fontsize=10)
    for axes in (bars, sizes):
        _quiet(axes)
    return _write(figure, target)


def confusion_matrix(matrix: Array, names: Mapping[int, str], target: Path, *, normalized: bool = False) -> Path:
    """Draw a confusion matrix.

    Args:
        matrix: (nc + 1, nc + 1) counts, rows predicted, columns true, background last.
        names: class names.
        target: picture to write.
        normalized: show the share of each true class instead of counts.
    """
    counts = np.asarray(matrix, np.float64)
    shown = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1) if normalized else counts
    side = min(max(4.5, 0.55 * len(counts) + 3), 24)
    figure = _figure(side + 1, side)
    axes = figure.add_subplot()
    picture = axes.imshow(shown, cmap="Blues", vmin=0)
    figure.colorbar(picture, ax=axes, fraction=0.046)
    labels = [*(names[n] for n in sorted(names)), "background"]
    if len(labels) <= 4 * MAX_NAMED_CLASSES:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="true", ylabel="predicted")
    if len(labels) <= MAX_NAMED_CLASSES + 1:
        for (row, column), value in np.ndenumerate(shown):
            if counts[row, column]:
                ink = "white" if value > shown.max() / 2 else "black"
                text = f"{value:.2f}" if normalized else f"{value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    return _write(figure, target)


def class_curves(
    x: Array, y: Array, names: Mapping[int, str], target: Path, *, x_label: str, y_label: str, mean_label: str = "mean"
) -> Path:
    """Draw one curve per class and their mean: precision over recall, or P, R, F1 over confidence.

    Args:
        x: (K,) shared by all curves.
        y: (nc, K); NaN or negative where a class has no ground truth.
        names: class names.
        target: picture to write.
        x_label: horizontal axis.
        y_label: vertical axis.
        mean_label: what the legend says about the mean curve, such as its area or its peak.
    """
    curves = np.asarray(y, np.float64).reshape(-1, len(x))
    known = [i for i in range(len(curves)) if np.isfinite(curves[i]).all() and (curves[i] >= 0).all()]
    figure = _figure(7.5, 5)
    axes = figure.add_subplot()
    named = len(known) <= MAX_NAMED_CLASSES
    for i in known:
        label = names.get(i, str(i)) if named else None
        axes.plot(x, curves[i], linewidth=1.2, color=_colour(i), alpha=1 if named else 0.4, label=label)
    if known:
        axes.plot(x, curves[known].mean(axis=0), linewidth=2.6, color="black", label=mean_label)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)
    _quiet(axes)
    return _write(figure, target)


def _figure(width_in: float, height_in: float) -> Any:
    """An empty figure that draws into memory.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib; pip install 'mamba-yolo[plots]'") from error
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Any, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    figure.savefig(partial)
    return partial.replace(target)


def _colour(index: int) -> tuple[float, float, float]:
    red, green, blue = colour_of(index)
    return red / 255, green / 255, blue / 255


def _quiet(axes: Any) -> None:
    """Take away the frame, leave a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.tick_params(labelsize=8)
