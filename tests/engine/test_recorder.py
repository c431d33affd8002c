"""Files of a run folder."""

from __future__ import annotations

import pytest
import yaml

from engine import tiny
from mamba_yolo.config import TrainConfig, from_flat
from mamba_yolo.engine.recorder import Recorder, columns_of, last_checkpoint, read_rows


def test_args_can_be_read_back(tmp_path):
    config = tiny.tiny_config(tmp_path, epochs=7)
    Recorder(tmp_path, config)
    assert from_flat(TrainConfig, yaml.safe_load((tmp_path / "args.yaml").read_text())) == config


def test_rows(tmp_path):
    recorder = Recorder(tmp_path, TrainConfig())
    recorder.write({"epoch": 1, "time": 1.25, "lr/pg0": 0.01}, None)
    recorder.write({"epoch": 2, "time": 2.5}, {"map50": 0.5})
    assert read_rows(tmp_path / "results.csv") == [
        {"epoch": 1, "time": 1.25, "lr/pg0": 0.01},
        {"epoch": 2, "time": 2.5},
    ]
    text = (tmp_path / "results.csv").read_text()
    assert text.splitlines()[0] == ",".join(columns_of("detect"))


@pytest.mark.parametrize(("epoch", "left"), [(0, []), (1, [1]), (2, [1, 2])])
def test_rows_past_the_checkpoint_go(tmp_path, epoch, left):
    recorder = Recorder(tmp_path, TrainConfig())
    for n in (1, 2, 3):
        recorder.write({"epoch": n}, None)
    Recorder(tmp_path, TrainConfig(), epoch)
    assert [row["epoch"] for row in read_rows(tmp_path / "results.csv")] == left
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(left)


def test_other_names_are_not_runs_of_this_one(tmp_path):
    for name in ("train", "trainer", "train-old"):
        (tmp_path / name / "weights").mkdir(parents=True)
        (tmp_path / name / "weights" / "last.safetensors").touch()
    assert last_checkpoint(tmp_path, "train").parts[-3] == "train"
