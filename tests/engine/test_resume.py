"""A run that was stopped, killed or asked to change: what continues, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from engine import tiny
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import CheckpointError, MissingFileError

QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, epoch, row, metrics):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def run(folder, callbacks=(), **options):
    return train(tiny.tiny_config(folder, **options), model=tiny.tiny_detector(), callbacks=callbacks, progress=QUIET)


def resume(folder, **options):
    return train(tiny.tiny_config(folder, resume=True, **options), progress=QUIET)


@pytest.mark.parametrize("optimizer", ["auto", "sgd"])
def test_two_and_two_epochs_are_four(tmp_path, optimizer):
    straight = run(tmp_path / "straight", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halves", [StopAfter(2)], optimizer=optimizer)
    torch.rand(7)  # the state of the generators must come from the file
    halves = resume(tmp_path / "halves")
    assert halves.epochs == 4
    assert halves.best_epoch == straight.best_epoch
    tiny.assert_same_run(straight.run_dir, halves.run_dir)


def test_rows_past_the_checkpoint_are_written_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopAfter(2)])
    with (tmp_path / "train/results.csv").open("a") as file:
        file.write("3,9,9\n4,half a li")
    with (tmp_path / "train/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3}\n{"epo')
    resume(tmp_path)
    assert [line.split(",")[0] for line in (tmp_path / "train/results.csv").read_text().splitlines()] == [
        "epoch",
        "1",
        "2",
        "3",
        "4",
    ]
    assert [json.loads(line)["epoch"] for line in (tmp_path / "train/metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
    ]


def test_newest_run_is_resumed(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, [StopAfter(1)])
    assert resume(tmp_path).run_dir == (tmp_path / "train2").resolve()


def test_file_to_resume_can_be_named(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, [StopAfter(1)])
    result = resume(tmp_path, model=str(tmp_path / "train/weights/last.safetensors"))
    assert result.run_dir == (tmp_path / "train").resolve()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(MissingFileError, match="nothing to resume"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 9}, "epochs=4, but 9 was asked for"),
        ({"data": "other"}, "data='tiny', but 'other' was asked for"),
        ({"model": "mamba-yolo-b"}, "model='mamba-yolo-t', but 'mamba-yolo-b' was asked for"),
    ],
)
def test_other_options_are_refused(tmp_path, options, named):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopAfter(1)])
    with pytest.raises(CheckpointError, match=named):
        resume(tmp_path, **options)


def test_other_classes_are_refused(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopAfter(1)])
    monkeypatch.setattr(
        "mamba_yolo.engine.prepare.open_dataset", lambda path, split: tiny.TinyDataset(4, {0: "x", 1: "y"})
    )
    with pytest.raises(CheckpointError, match="classes of tiny are not those of this run"):
        resume(tmp_path)


def test_finished_run_and_best_file_cannot_be_resumed(tmp_path):
    result = run(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="finished its 1 epochs"):
        resume(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="holds weights only"):
        resume(tmp_path, epochs=1, model=str(result.best))
