"""The loop, end to end with stand-ins: files, order of events, determinism, and what stops it."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from engine import tiny
from mamba_yolo.engine import checkpoint
from mamba_yolo.engine import train as train_module
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.recorder import columns_of
from mamba_yolo.engine.train import train
from mamba_yolo.errors import DataError, SaveError, TrainingError

QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


def run(folder, callbacks=(), **options):
    return train(tiny.tiny_config(folder, **options), model=tiny.tiny_detector(), callbacks=callbacks, progress=QUIET)


def test_run_folder_holds_what_yolo_users_expect(tmp_path):
    result = run(tmp_path)
    assert result.run_dir == tmp_path / "train"
    files = {str(p.relative_to(result.run_dir)) for p in result.run_dir.rglob("*") if p.is_file()}
    assert files == {
        "args.yaml",
        "results.csv",
        "metrics.jsonl",
        "weights/last.safetensors",
        "weights/best.safetensors",
    }
    with (result.run_dir / "results.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(columns_of("detect"))
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4"]
    assert all(cell != "" for row in rows for cell in row)
    lines = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["validation"]["images"] == 5


def test_second_run_gets_a_folder_of_its_own(tmp_path):
    run(tmp_path, epochs=1)
    assert run(tmp_path, epochs=1).run_dir == tmp_path / "train2"


def test_same_seed_same_weights_and_other_seed_other_weights(tmp_path):
    first, second, other = (checkpoint.load(run(tmp_path, seed=s, epochs=2).best) for s in (0, 0, 1))
    assert all(torch.equal(first.weights[k], second.weights[k]) for k in first.weights)
    assert not all(torch.equal(first.weights[k], other.weights[k]) for k in first.weights)


def test_best_file_says_what_it_is(tmp_path):
    result = run(tmp_path)
    best = checkpoint.load(result.best)
    assert best.resume is None
    assert best.names == tiny.NAMES
    assert best.imgsz == tiny.IMGSZ
    assert best.training_set == "tiny"
    assert best.figures == pytest.approx(result.best_metrics.figures(), abs=1e-6)


def test_ties_of_fitness_go_to_the_later_epoch(tmp_path):
    result = run(tmp_path, epochs=3, lr0=1e-12, optimizer="sgd", warmup_bias_lr=0.0)
    assert result.best_metrics.fitness == 0
    assert result.best_epoch == 3


def test_tampered_best_file_fails_loudly(tmp_path, monkeypatch):
    def tampered(saved):
        figures = {name: value + 0.01 for name, value in saved.figures.items()}
        return checkpoint.snapshot(dataclasses.replace(saved, figures=figures))

    monkeypatch.setattr("mamba_yolo.engine.writer.snapshot", tampered)
    with pytest.raises(TrainingError, match=r"best\.safetensors: gives \w+ .* where training measured"):
        run(tmp_path, epochs=1)


def test_other_weights_in_the_best_file_fail_loudly(tmp_path, monkeypatch):
    figures = iter([0.5, 0.4])

    def validate(*_args, **_kwargs):
        value = next(figures)
        return type(
            "Fake",
            (),
            {
                "fitness": value,
                "losses": {},
                "figures": lambda _: {"map50": value, "map50_95": value, "precision": value, "recall": value},
                "columns": lambda _: {},
                "to_dict": lambda _: {},
            },
        )()

    monkeypatch.setattr(train_module, "validate", validate)
    with pytest.raises(TrainingError, match=r"gives map50 0\.400000 where training measured 0\.500000"):
        run(tmp_path, epochs=1)


def test_nan_loss_stops_with_step_files_and_advice_and_leaves_the_checkpoint(tmp_path, monkeypatch):
    class BreaksLater(tiny.TinyLoss):
        calls = 0

        def __call__(self, raw, *targets):
            parts = super().__call__(raw, *targets)
            BreaksLater.calls += raw.levels[0].requires_grad
            return parts._replace(total=parts.total * float("nan")) if BreaksLater.calls == 4 else parts

    monkeypatch.setattr("mamba_yolo.engine.prepare.DetectionLoss", BreaksLater)
    with pytest.raises(
        TrainingError, match=r"step 4: the loss is not finite .*image\d+\.png.*lower --lr0.*mamba-yolo check"
    ):
        run(tmp_path)
    assert checkpoint.load(tmp_path / "train/weights/last.safetensors").resume.epoch == 1


def test_no_boxes_is_said_before_anything_is_written(tmp_path, monkeypatch):
    empty = tiny.TinyDataset(3)
    empty.samples = [s._replace(boxes_xyxy=s.boxes_xyxy[:0], classes=s.classes[:0]) for s in empty.samples]
    monkeypatch.setattr("mamba_yolo.engine.prepare.open_dataset", lambda path, split: empty)
    with pytest.raises(DataError, match="no boxes in its 3 training images"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_patience_stops_and_says_so(tmp_path, capsys, monkeypatch):
    fitness = iter([0.3, 0.2, 0.1, 0.3])
    real = train_module.validate

    def validate(*args, **kwargs):
        metrics = real(*args, **kwargs)
        metrics.coco["AP"] = metrics.coco["AP50"] = next(fitness)
        return metrics

    monkeypatch.setattr(train_module, "validate", validate)
    config = tiny.tiny_config(tmp_path, epochs=9, patience=2)
    result = train(config, model=tiny.tiny_detector())
    assert result.epochs == 3
    assert result.best_epoch == 1
    assert "no better epoch in 2: stopped after epoch 3" in capsys.readouterr().err


def test_mosaic_closes_for_the_last_epochs(tmp_path, monkeypatch):
    seen = []

    class Loader(tiny.TinyLoader):
        def __init__(self, *args, close_epoch=None, **options):
            super().__init__(*args, **options)
            seen.extend([close_epoch] if self.train else [])

    monkeypatch.setattr("mamba_yolo.engine.prepare.Loader", Loader)
    run(tmp_path, close_mosaic=1)
    run(tmp_path, close_mosaic=99)
    assert seen == [3, 0]


def test_both_loaders_get_the_cache_and_that_of_training_the_hook(tmp_path, monkeypatch):
    seen = []

    class Loader(tiny.TinyLoader):
        def __init__(self, *args, hook=None, cache="off", partners="recent", **options):
            super().__init__(*args, **options)
            seen.append((self.train, cache, partners, hook))

    monkeypatch.setattr("mamba_yolo.engine.prepare.Loader", Loader)
    config = tiny.tiny_config(tmp_path, epochs=2, cache="ram", partners="uniform")
    train(config, model=tiny.tiny_detector(), progress=QUIET, hook=print)
    assert seen == [(True, "ram", "uniform", print), (False, "ram", "recent", None)]


def test_validation_every_other_epoch_and_after_the_last(tmp_path):
    result = run(tmp_path, epochs=3, val_period=2)
    lines = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["validation"] is not None for line in lines] == [False, True, True]


def test_callbacks_see_the_run(tmp_path):
    class Listener(Callback):
        def __init__(self):
            self.events = []

        def on_run_start(self, run):
            self.events.append(("start", run.boxes_xywh_norm.shape[0] == run.classes.shape[0] > 0))

        def on_batch(self, index, batch):
            self.events.append(("batch", index))

        def on_validation_batch(self, batch, detections, masks):
            assert masks is None
            assert all(isinstance(d, np.ndarray) and d.shape[1] == 6 for d in detections)
            self.events.append(("validation", len(detections)))

        def on_epoch_end(self, epoch, row, metrics):
            self.events.append(("epoch", epoch))

        def on_run_end(self, folder, metrics):
            self.events.append(("end", metrics.images))

    listener = Listener()
    run(tmp_path, epochs=2, callbacks=[listener])
    epoch = [("validation", 4), ("epoch", 1)]
    assert listener.events == [
        ("start", True), ("batch", 0), ("batch", 1), *epoch,
        ("validation", 4), ("epoch", 2), ("validation", 4), ("end", 5),
    ]  # fmt: skip


def test_interrupt_passes_through_and_says_what_is_safe(tmp_path, capsys):
    class Impatient(Callback):
        def on_epoch_end(self, epoch, row, metrics):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny.tiny_config(tmp_path), model=tiny.tiny_detector(), callbacks=[Impatient()])
    assert "stopped: epoch 2 is safe in" in capsys.readouterr().err
    assert checkpoint.load(tmp_path / "train/weights/last.safetensors").resume.epoch == 2


def test_full_disk_while_saving_keeps_the_previous_epoch(tmp_path, monkeypatch):
    import errno
    import os

    real, count = os.replace, iter(range(100))

    def replace(source, target):
        if str(target).endswith("last.safetensors") and next(count) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(SaveError, match=r"cannot save .*last\.safetensors.*No space left.*free space"):
        run(tmp_path)
    assert checkpoint.load(tmp_path / "train/weights/last.safetensors").resume.epoch == 1
    assert [p.name for p in (tmp_path / "train/weights").iterdir() if "tmp" in p.name] == []


def test_other_number_of_classes_restarts_the_class_layers_and_says_so(tmp_path, capsys):
    train(tiny.tiny_config(tmp_path, epochs=1), model=tiny.tiny_detector(num_classes=5))
    assert "other classes: 6 class layers of the head start at random" in capsys.readouterr().err
