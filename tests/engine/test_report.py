"""report.html: complete, self-contained, small, and safe whatever classes and files are called."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import tiny
from mamba_yolo.config import ValConfig
from mamba_yolo.engine import report as report_module
from mamba_yolo.engine import shots
from mamba_yolo.engine.metrics import evaluate, truth_of
from mamba_yolo.engine.pictures import plots
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.report import (
    MOST_CONFUSED,
    Report,
    _training_curves,
    box_labels,
    report_validation,
    write_report,
)
from mamba_yolo.engine.train import train
from mamba_yolo.errors import MissingPackageError, SaveError
from visual.test_markup import Reader

HOSTILE = "<script>alert(1)</script>\"'&\u202e"
SECTIONS = ("summary", "training", "precision", "classes", "confusion", "labels", "samples", "worst")


def measured(num_images=12, names=tiny.NAMES, seed=0):
    """A data set, and figures of detections with every kind of fault."""
    rng = np.random.default_rng(seed)
    dataset = tiny.TinyDataset(num_images, names)
    truths = [truth_of(dataset[i]) for i in range(num_images)]
    detections = []
    for truth in truths:
        keep = rng.random(len(truth.classes)) < 0.7
        right = np.concatenate([truth.boxes_xyxy[keep], np.full((keep.sum(), 1), 0.9), truth.classes[keep, None]], 1)
        wrong = np.array([[0, 0, 5, 5, 0.95, rng.integers(len(names))]] * rng.integers(0, 3)).reshape(-1, 6)
        detections.append(np.concatenate([right, wrong]).astype(np.float32))
    metrics = evaluate(truths, detections, dict(names))
    verdicts = [v._replace(loss=float(rng.random())) for v in metrics.verdicts]
    return dataset, dataclasses.replace(metrics, verdicts=verdicts)


def written(folder, dataset, metrics, **more):
    boxes, classes = box_labels(dataset)
    report = Report(HOSTILE, ValConfig(data=HOSTILE), metrics, dataset, boxes, classes, HOSTILE, **more)
    return write_report(report, folder).read_text(encoding="utf-8")


def shown_order(text, name):
    """Files of the worst images as a browser would order them for one of the sort buttons."""
    figures = re.findall(r'<figure class="([^"]+)" style="([^"]+)">.*?<figcaption><span class="name">([^<]+)', text)
    ranked = [(int(re.search(rf"--{name}:(\d+)", style)[1]), file, classes) for classes, style, file in figures]
    return [(file, classes) for _, file, classes in sorted(ranked)]


def test_training_writes_a_whole_page(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)

    def missing(*_args):
        raise MissingPackageError("plots need matplotlib")

    monkeypatch.setattr(plots, "_figure", missing)
    config = tiny.tiny_config(tmp_path, epochs=2, plots=True)
    result = train(config, model=tiny.tiny_detector(), progress=Reporter(quiet=True))
    text = (result.run_dir / "report.html").read_text(encoding="utf-8")
    seen = Reader(text)
    assert [value for name, value in seen.attributes if name == "id" and value in SECTIONS] == list(SECTIONS)
    assert seen.tags.count("svg") >= 6 + 4 + 2
    assert "close_mosaic" in text
    assert f"{result.best_metrics.map50:.3f}" in text


def test_without_plots_there_is_no_page(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    result = train(tiny.tiny_config(tmp_path, epochs=1), model=tiny.tiny_detector(), progress=Reporter(quiet=True))
    assert not (result.run_dir / "report.html").exists()


def test_curves_of_some_epochs_are_lines():
    rows = [{"epoch": float(e), **({"metrics/mAP50(B)": e / 10} if e % 3 == 0 else {})} for e in range(1, 10)]
    (line,) = re.findall(r'd="([^"]+)"[^>]*><title>metrics/mAP50\(B\)</title>', _training_curves(rows))
    assert re.sub(r"[\d. -]", "", line) == "MLL"


def test_strange_names_stay_text_and_nothing_is_fetched(tmp_path):
    names = {0: HOSTILE, 1: "\ud800lone"}
    dataset, metrics = measured(names=names)
    dataset.samples = [
        s._replace(path=Path(f"{HOSTILE.replace('/', '')}{i}.jpg")) for i, s in enumerate(dataset.samples)
    ]
    seen = Reader(written(tmp_path, dataset, metrics, facts={HOSTILE: HOSTILE}))
    assert "script" not in seen.tags
    assert not any(name.startswith("on") for name, _ in seen.attributes)
    links = {value for name, value in seen.attributes if name in ("href", "src")}
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert HOSTILE in seen.texts


def test_worst_images_are_those_with_most_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(shots, "WORST", 4)
    dataset, metrics = measured(30)
    text = written(tmp_path, dataset, metrics)
    value = {f"image{i}.png": v for i, v in enumerate(metrics.verdicts)}
    for name, measure in (
        ("loss", lambda v: v.loss),
        ("missed-rank", lambda v: len(v.missed)),
        ("false-rank", lambda v: len(v.false)),
    ):
        order = [file for file, _ in shown_order(text, name)]
        assert len(order) == len(set(order)) <= 12
        values = [measure(value[file]) for file in order]
        assert values == sorted(values, reverse=True)
        assert values[:4] == sorted((measure(v) for v in metrics.verdicts), reverse=True)[:4]


def test_the_filter_knows_the_classes_that_went_wrong(tmp_path):
    dataset, metrics = measured(30)
    text = written(tmp_path, dataset, metrics)
    value = {f"image{i}.png": v for i, v in enumerate(metrics.verdicts)}
    for file, classes in shown_order(text, "loss"):
        assert {int(c[1:]) for c in classes.split()[1:]} == value[file].wrong_classes()
    for c in (0, 1):
        assert f'id="only-c{c}"' in text
        assert f"#only-c{c}:checked) .shot:not(.c{c}){{display:none}}" in text


def test_a_page_of_large_photographs_stays_small(tmp_path):
    dataset, metrics = measured(40)
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8)).resize((1800, 1200))
    smooth.save(tmp_path / "large.jpg")
    dataset.samples = [s._replace(path=tmp_path / "large.jpg") for s in dataset.samples]
    text = written(tmp_path, dataset, metrics)
    assert text.count("data:image/jpeg") > 15
    assert len(text) < 5_000_000


def test_nothing_found_nothing_labelled_and_many_classes(tmp_path):
    names = {i: f"class {i}" for i in range(MOST_CONFUSED + 5)}
    dataset = tiny.TinyDataset(3, names)
    truths = [truth_of(dataset[i]) for i in range(3)]
    nothing = [np.zeros((0, 6), np.float32)] * 3
    assert "commonest mistakes" in written(tmp_path, dataset, evaluate(truths, nothing, names))
    dataset.samples = [s._replace(boxes_xyxy=s.boxes_xyxy[:0], classes=s.classes[:0], is_crowd=s.is_crowd[:0])
                       for s in dataset.samples]  # fmt: skip
    metrics = evaluate([truth_of(s) for s in dataset.samples], nothing, names)
    assert "no false alarm" in written(tmp_path, dataset, metrics)


def test_validation_has_a_page_too(tmp_path):
    dataset, metrics = measured()
    path = report_validation(ValConfig(data="d.yaml", model="weights/best.safetensors"), metrics, dataset, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "<title>best.safetensors on d.yaml, split val</title>" in text
    assert 'id="training"' not in text


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(path, _text):
        raise SaveError(f"cannot save {path}: no space left")

    monkeypatch.setattr(report_module, "write_text", full)
    with pytest.raises(SaveError, match=r"report\.html"):
        written(tmp_path, *measured())
