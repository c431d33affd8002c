"""Photographs of a report: samples, and the worst images by loss, by misses and by false alarms.

Radio buttons sort and filter, and style sheets do the work: every picture carries its three ranks and the classes it
got wrong. Test: tests/engine/test_report.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mamba_yolo.data import decode_image
from mamba_yolo.engine.matches import CROWD, UNMATCHED
from mamba_yolo.errors import ImageError
from mamba_yolo.visual.markup import Html, joined, tag
from mamba_yolo.visual.overlay import Mark, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from mamba_yolo.data import Dataset
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.engine.verdicts import Verdict

SAMPLES = 6
WORST = 8  # by each of the three measures
MOST_FALSE = 60  # false alarms drawn on a picture, the surest ones; an untrained network has hundreds
PICTURE_PX = 640  # longest side inside the page: at most 30 pictures stay well below 5 MB
KEYS = {
    "found": "found",
    "missed": "missed (no detection)",
    "false": "false alarm (no such object)",
    "truth": "label of a found object",
}


def sample_images(metrics: Metrics, dataset: Dataset) -> Html:
    """A few images from all over the data set, and what the colours mean on every picture."""
    chosen = np.unique(np.linspace(0, len(metrics.verdicts) - 1, SAMPLES).round().astype(int)).tolist()
    boxes = [
        tag("label", tag("input", type="checkbox", id=f"show-{kind}", checked=True), _key(kind), text)
        for kind, text in KEYS.items()
    ]
    note = f"Detections over confidence {metrics.confidence:.3f}; the boxes can be switched off here for all pictures."
    shots = [_shot(metrics.verdicts[i], dataset, i, {}) for i in chosen if metrics.verdicts]
    return joined(
        [tag("p", note, class_="soft"), tag("div", *boxes, class_="choices"), tag("div", *shots, class_="shots")]
    )


def worst_images(metrics: Metrics, dataset: Dataset) -> Html:
    """The images of highest loss, most misses and most false alarms, each once, sorted and filtered by a click."""
    measures = _measures(metrics.verdicts)
    if not measures:
        return tag("p", "Nothing was missed, and there is no false alarm.")
    chosen = sorted({int(i) for values in measures.values() for i in _largest(values)})
    ranks = {
        name: dict(zip(np.array(chosen)[np.argsort(-values[chosen], kind="stable")].tolist(), range(999), strict=False))
        for name, values in measures.items()
    }
    first = next(iter(measures))
    chosen.sort(key=lambda i: ranks[first][i])  # also without style sheets
    shots = [_shot(metrics.verdicts[i], dataset, i, {name: ranks[name][i] for name in ranks}) for i in chosen]
    wrong = sorted({c for i in chosen for c in metrics.verdicts[i].wrong_classes()})
    titles = {"loss": "highest loss", "missed": "most misses", "false": "most false alarms"}
    by = [_choice("by", name, titles[name], checked=name == first) for name in measures]
    only = [_choice("only", "all", "all", checked=True), *(_choice("only", f"c{c}", dataset.names[c]) for c in wrong)]
    rules = "".join(f"#worst:has(#only-c{c}:checked) .shot:not(.c{c}){{display:none}}" for c in wrong)
    return tag(
        "div",
        tag("style", Html(rules)),
        tag("p", f"The {WORST} worst by each measure; loss is that of the image alone.", class_="soft"),
        tag("fieldset", tag("legend", "sort by"), *by, class_="choices"),
        tag("fieldset", tag("legend", "mistakes in"), *only, class_="choices"),
        tag("div", *shots, class_="shots"),
    )


def _measures(verdicts: Sequence[Verdict]) -> dict[str, npt.NDArray[np.float64]]:
    """How bad each image is by each measure; measures that say nothing are left out."""
    values = {
        "loss": np.array([v.loss for v in verdicts]),
        "missed": np.array([float(len(v.missed)) for v in verdicts]),
        "false": np.array([float(len(v.false)) for v in verdicts]),
    }
    return {name: v for name, v in values.items() if np.isfinite(v).all() and (v > 0).any()}


def _largest(values: npt.NDArray[np.float64]) -> list[int]:
    """The worst images, none without a fault."""
    order = np.argsort(-values, kind="stable")[:WORST]
    return [int(i) for i in order if values[i] > 0]


def _shot(verdict: Verdict, dataset: Dataset, index: int, ranks: Mapping[str, int]) -> Html:
    """One picture with its boxes, its name and its counts."""
    path = dataset[index].path
    try:
        image = decode_image(path)
    except ImageError:  # gone since it was measured: the boxes still tell something
        image = None
    drawing = overlay(image, dataset.image_size(index), _marks(verdict, dataset.names), PICTURE_PX)
    counts = [
        f"{len(verdict.missed)} missed",
        f"{len(verdict.false)} false",
        f"{int((verdict.found >= 0).sum())} found",
    ]
    if np.isfinite(verdict.loss):
        counts.insert(0, f"loss {verdict.loss:.2f}")
    caption = tag("figcaption", tag("span", path.name, class_="name"), tag("br"), tag("small", " · ".join(counts)))
    names = {"loss": "--loss", "missed": "--missed-rank", "false": "--false-rank"}
    style: Any = ";".join(f"{names[name]}:{rank}" for name, rank in ranks.items()) or None
    classes = " ".join(["shot", *(f"c{c}" for c in sorted(verdict.wrong_classes()))])
    return tag("figure", drawing, caption, class_=classes, style=style)


def _marks(verdict: Verdict, names: Mapping[int, str]) -> list[Mark]:
    """Labels below detections, mistakes on top."""
    truth, missed = verdict.truth, set(verdict.missed.tolist())
    marks = []
    for k, (box, c) in enumerate(zip(truth.boxes_xyxy, truth.classes.tolist(), strict=True)):
        kind = "crowd" if truth.is_crowd[k] else "missed" if k in missed else "truth"
        marks.append(Mark(box, kind, names[c]))  # type: ignore[arg-type]
    false = verdict.false
    quiet = set(false[np.argsort(-verdict.rows[false, 4], kind="stable")[MOST_FALSE:]].tolist())
    for k, (row, found) in enumerate(zip(verdict.rows, verdict.found.tolist(), strict=True)):
        if k in quiet:
            continue
        kind = {UNMATCHED: "false", CROWD: "crowd"}.get(found, "found")
        marks.append(Mark(row[:4], kind, f"{names[int(row[5])]} {row[4]:.2f}"))  # type: ignore[arg-type]
    order = ("crowd", "truth", "found", "missed", "false")
    return sorted(marks, key=lambda mark: order.index(mark.kind))


def _choice(group: str, name: str, text: str, *, checked: bool = False) -> Html:
    button = tag("input", type="radio", name=group, id=f"{group}-{name}", checked=checked)
    return tag("label", button, tag("span", text, class_="name"))


def _key(kind: str) -> Html:
    return tag("span", class_=f"key {kind}")
