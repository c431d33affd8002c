"""report.html: everything about a run or a validation on one page, readable on a phone, with nothing outside the file.

No script and no library: charts are SVG, pictures lie inside, and sorting and filtering the worst images is CSS.
Test: tests/engine/test_report.py.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import mamba_yolo
from mamba_yolo.config import to_dict
from mamba_yolo.engine.matches import CONFIDENCES
from mamba_yolo.engine.safefile import write_text
from mamba_yolo.engine.shots import sample_images, worst_images
from mamba_yolo.visual.charts import Line, confusion_table, heat_map, line_chart
from mamba_yolo.visual.markup import Html, joined, page, tag
from mamba_yolo.visual.palette import colour_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from mamba_yolo.config import TrainConfig, ValConfig
    from mamba_yolo.data import Dataset
    from mamba_yolo.engine.metrics import Metrics

MOST_COLOURED = 20  # classes with a curve of their own
MOST_CONFUSED = 40  # classes of a confusion matrix that can be read
HEAT_BINS = 24

CURVES = {
    "box loss": ("train/box_loss", "val/box_loss"),
    "mask loss": ("train/seg_loss", "val/seg_loss"),
    "class loss": ("train/cls_loss", "val/cls_loss"),
    "distance loss": ("train/dfl_loss", "val/dfl_loss"),
    "precision and recall": ("metrics/precision(B)", "metrics/recall(B)"),
    "average precision": ("metrics/mAP50(B)", "metrics/mAP50-95(B)"),
    "average precision of masks": ("metrics/mAP50(M)", "metrics/mAP50-95(M)"),
    "learning rate": ("lr/pg0", "lr/pg1", "lr/pg2"),
}
COLOURS = ("var(--accent)", "var(--false)", "var(--missed)")


@dataclass(frozen=True)
class Report:
    """What a page tells.

    Attributes:
        title: what was done to what.
        config: its options.
        metrics: figures, with verdicts on the images of `dataset`.
        dataset: what was measured.
        boxes_xywh_norm: (n, 4) labels that are counted, centre and size as fractions of their image.
        classes: (n,) their classes.
        labels_of: whose labels those are.
        facts: further lines of the summary.
        rows: rows of results.csv; none after a validation.
    """

    title: str
    config: TrainConfig | ValConfig
    metrics: Metrics
    dataset: Dataset
    boxes_xywh_norm: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    labels_of: str
    facts: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Mapping[str, float]] = ()


def write_report(report: Report, folder: Path) -> Path:
    """Write report.html into a folder.

    Raises:
        SaveError: it cannot be written.
    """
    sections = {
        "Summary": _summary(report),
        "Training": _training_curves(report.rows) if report.rows else None,
        "Precision and recall": _confidence_curves(report.metrics),
        "Classes": _class_table(report.metrics),
        "Confusion": _confusion(report.metrics),
        "Labels": _labels(report),
        "Samples": sample_images(report.metrics, report.dataset),
        "Worst images": worst_images(report.metrics, report.dataset),
    }
    shown = [(name, name.split()[0].lower(), body) for name, body in sections.items() if body is not None]
    links = [tag("a", name, href=f"#{anchor}") for name, anchor, _ in shown]
    parts = [tag("section", tag("h2", name), body, id=anchor) for name, anchor, body in shown]
    body = joined([tag("h1", report.title, class_="name"), tag("nav", *links), *parts])
    path = folder / "report.html"
    write_text(path, page(report.title, body))
    return path


def report_validation(config: ValConfig, metrics: Metrics, dataset: Dataset, folder: Path) -> Path:
    """Write report.html of a validation; raises as `write_report`."""
    title = f"{Path(config.model).name} on {short_path(config.data)}, split {config.split}"
    labels = f"these {len(dataset)} images"
    return write_report(Report(title, config, metrics, dataset, *box_labels(dataset), labels), folder)


def short_path(path: str) -> str:
    """The last two parts of a path."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def box_labels(dataset: Dataset) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(n, 4) centre and size of every box as fractions of its image, and (n,) classes."""
    boxes, classes = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for i in range(len(dataset)):
        sample = dataset[i]
        height, width = dataset.image_size(i)
        corners = sample.boxes_xyxy / np.array([width, height, width, height], np.float32)
        boxes.append(np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1))
        classes.append(sample.classes)
    return np.concatenate(boxes), np.concatenate(classes)


def _summary(report: Report) -> Html:
    metrics = report.metrics
    figures = {
        "AP50-95": metrics.map50_95,
        "AP50": metrics.map50,
        **({"mask AP50-95": metrics.seg.map50_95, "mask AP50": metrics.seg.map50} if metrics.seg else {}),
        "precision": metrics.precision,
        "recall": metrics.recall,
        "F1": metrics.f1,
        "best confidence": metrics.confidence,
    }
    tiles = [tag("div", name, tag("b", _figure(value)), class_="tile") for name, value in figures.items()]
    speed = ", ".join(f"{phase} {ms:.1f}" for phase, ms in metrics.speed_ms.items())
    facts = {
        "measured on": f"{metrics.images} images with {metrics.instances} objects",
        **report.facts,
        "ms per image": speed,
        "versions": f"mamba-yolo {mamba_yolo.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "machine": platform.platform(),
    }
    options = tag("details", tag("summary", "all options"), _facts(_flat(to_dict(report.config))))
    return joined([tag("div", *tiles, class_="tiles"), tag("div", _facts(facts), options, class_="card")])


def _training_curves(rows: Sequence[Mapping[str, float]]) -> Html:
    """One small chart for columns that belong together."""
    cards = []
    for title, columns in CURVES.items():
        known = {column: [row for row in rows if column in row] for column in columns}  # not every epoch is validated
        if not any(known.values()):
            continue
        lines = [
            Line(column, [row["epoch"] for row in found], [row[column] for row in found], colour)
            for (column, found), colour in zip(((c, f) for c, f in known.items() if f), COLOURS, strict=False)
        ]
        names = [(_short_name(line.name), line.colour) for line in lines]
        cards.append(tag("div", tag("h3", title), line_chart(lines, "epoch", ""), _legend(names), class_="card"))
    return tag("div", *cards, class_="cards")


def _confidence_curves(metrics: Metrics) -> Html:
    """PR at IoU 0.5, and precision, recall, F1 by confidence: each class where there are few, and the mean."""
    known = [i for i, row in enumerate(metrics.per_class) if row.instances > 0]
    coloured = known if len(known) <= MOST_COLOURED else []
    charts = (
        ("precision over recall", "recall", np.linspace(0, 1, 101), metrics.precision50),
        ("F1 by confidence", "confidence", CONFIDENCES, metrics.curves.f1),
        ("precision by confidence", "confidence", CONFIDENCES, metrics.curves.precision),
        ("recall by confidence", "confidence", CONFIDENCES, metrics.curves.recall),
    )
    cards = []
    for title, x_label, x, values in charts:
        lines = [Line(metrics.per_class[i].name, x, values[i], _css(i)) for i in coloured]
        lines += [Line("mean", x, values[known].mean(axis=0), bold=True)] if known else []
        chart = line_chart(lines, x_label, title.split()[0], unit_square=True)
        cards.append(tag("div", tag("h3", title), chart, class_="card"))
    names = [("mean", "currentColor"), *((metrics.per_class[i].name, _css(i)) for i in coloured)]
    best = f"F1 is largest at confidence {metrics.confidence:.3f}: a good value of --conf."
    note = tag("p", best if metrics.f1 > 0 else "Nothing was found at any confidence.", class_="soft")
    return joined([note, tag("div", *cards, class_="cards wide"), _legend(names)])


def _class_table(metrics: Metrics) -> Html:
    head: tuple[str, ...] = ("class", "images", "objects", "P", "R", "F1", "AP50", "AP50-95")
    total = (metrics.images, metrics.instances, metrics.precision, metrics.recall, metrics.f1)
    rows: list[tuple[Any, ...]] = [("all", *total, metrics.map50, metrics.map50_95), *metrics.per_class]
    if metrics.seg:
        head = (*head, "mask AP50", "mask AP50-95")
        figures = [(metrics.seg.map50, metrics.seg.map50_95), *((c.ap50, c.ap50_95) for c in metrics.seg.per_class)]
        rows = [(*row, *more) for row, more in zip(rows, figures, strict=True)]
    body = [
        tag("tr", tag("td", swatch, row[0], class_="name"), *(tag("td", _figure(value)) for value in row[1:]))
        for swatch, row in zip(["", *(_swatch(_css(i)) for i in range(len(rows)))], rows, strict=False)
    ]
    header = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    note = f"P, R and F1 at confidence {metrics.confidence:.3f} and IoU 0.5; a dash where there is no object."
    table = tag("div", tag("table", header, tag("tbody", *body), class_="classes"), class_="scroll", tabindex=0)
    return joined([table, tag("p", note, class_="soft")])


def _confusion(metrics: Metrics) -> Html:
    """The matrix, or of many classes the commonest mistakes."""
    names = [row.name for row in metrics.per_class]
    note = f"At confidence {metrics.confidence:.3f} and IoU 0.5; shaded by the share of each true class."
    if len(names) <= MOST_CONFUSED:
        return joined([confusion_table(metrics.confusion, names), tag("p", note, class_="soft")])
    mistakes = metrics.confusion.copy()
    np.fill_diagonal(mistakes, 0)
    labels = [*names, "background"]
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(k), len(labels)) for k in order if mistakes.flat[k] > 0]
    rows = [tag("tr", *(tag("td", v) for v in (labels[t], labels[p], mistakes[p, t]))) for p, t in pairs]
    head = tag("thead", tag("tr", *(tag("th", name) for name in ("true", "predicted", "times"))))
    return joined([tag("p", f"The {len(rows)} commonest mistakes."), tag("table", head, tag("tbody", *rows))])


def _labels(report: Report) -> Html:
    """Boxes per class, where they lie and how large they are."""
    counts = np.bincount(report.classes, minlength=len(report.metrics.per_class))
    most = max(int(counts.max(initial=0)), 1)
    rows = [
        tag(
            "tr",
            tag("td", _swatch(_css(i)), row.name, class_="name"),
            tag("td", int(count)),
            tag("td", tag("span", class_="bar", style=f"width:{7 * count / most:.2f}rem")),
        )
        for i, (row, count) in enumerate(zip(report.metrics.per_class, counts, strict=False))
    ]
    boxes = np.clip(report.boxes_xywh_norm, 0, 1)
    squares = (
        ("centres of boxes", boxes[:, :2], "x", "y", True),
        ("sizes of boxes", boxes[:, 2:], "width", "height", False),
    )
    cards = [tag("div", tag("h3", "boxes per class"), tag("table", tag("tbody", *rows)), class_="card scroll")]
    for title, values, x_label, y_label, downwards in squares:
        bins, _, _ = np.histogram2d(values[:, 0], values[:, 1], bins=HEAT_BINS, range=[[0, 1], [0, 1]])
        chart = heat_map(bins, x_label, y_label, downwards=downwards)
        cards.append(tag("div", tag("h3", title), chart, class_="card"))
    note = f"{len(boxes)} boxes of {report.labels_of}, as fractions of their images."
    return joined([tag("p", note, class_="soft"), tag("div", *cards, class_="cards")])


def _facts(facts: Mapping[str, Any]) -> Html:
    return tag("dl", *(part for k, v in facts.items() for part in (tag("dt", k), tag("dd", v))), class_="facts")


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options under their own names, as the command line takes them."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _legend(names: Sequence[tuple[str, str]]) -> Html:
    items = (tag("li", _swatch(colour), tag("span", name, class_="name")) for name, colour in names)
    return tag("ul", *items, class_="legend")


def _swatch(colour: str) -> Html:
    return tag("span", class_="swatch", style=f"background:{colour}")


def _css(class_index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(class_index))


def _short_name(column: str) -> str:
    """`train/box_loss` as train, `metrics/mAP50(B)` as mAP50."""
    group, name = column.split("/")
    return group if name.endswith("_loss") else name[: name.rindex("(")] if "(" in name else name


def _figure(value: float | int) -> str:
    """Three digits; a dash without ground truth."""
    if isinstance(value, float):
        return f"{value:.3f}" if value >= 0 else "-"
    return str(value)
