"""`device=cpu,cpu`: one call, two processes, one result; what goes wrong in either is the error of the call."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import mamba_yolo
from engine import tiny
from engine.torchrun import python
from mamba_yolo.config import TrainConfig
from mamba_yolo.engine import launch as launch_module
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.matches import Truth
from mamba_yolo.engine.metrics import evaluate
from mamba_yolo.engine.outcome import TrainResult, read_result, write_result
from mamba_yolo.engine.ranks import start_processes
from mamba_yolo.engine.train import train
from mamba_yolo.errors import BackendError, ConfigError, DataError, MambaYoloError, RankLostError, TrainingError

DATA = Path(mamba_yolo.__file__).parent / "assets/bccd_mini/data.yaml"
OPTIONS = {"device": "cpu,cpu", "model": "mamba-yolo-n", "imgsz": 64, "batch": 4, "plots": False, "workers": 1}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


WATCHER = """
import os
from mamba_yolo.engine.callbacks import Callback
class Watch(Callback):
    def on_run_end(self, folder, metrics):
        (folder / f"heard by {os.environ['RANK']}").touch()
"""


def test_two_processes_train_and_one_result_comes_back(tmp_path, monkeypatch):
    (tmp_path / "launch_watcher.py").write_text(WATCHER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    model = mamba_yolo.MambaYOLO("mamba-yolo-n", device="cpu")
    handlers = signal.getsignal(signal.SIGINT)
    model.device = "cpu,cpu"
    config = TrainConfig(
        data=str(DATA), epochs=1, project=str(tmp_path / "runs"), callbacks=("launch_watcher:Watch",), **OPTIONS
    )
    result = train(config, model=model.module)
    assert result.run_dir == tmp_path / "runs/train"
    assert result.epochs == result.best_epoch == 1
    assert result.best.is_file()
    assert result.best_metrics.images > 0
    assert result.best_metrics.curves.f1.shape[1] == 1001
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["train"]
    assert [p.name for p in result.run_dir.glob("heard by *")] == ["heard by 0"]
    assert signal.getsignal(signal.SIGINT) is handlers
    assert "TORCHELASTIC_RUN_ID" not in os.environ


def test_error_of_a_process_is_the_error_of_the_call(tmp_path):
    config = TrainConfig(data=str(tmp_path / "nothing"), epochs=1, project=str(tmp_path), **OPTIONS)
    with pytest.raises(MambaYoloError, match="nothing") as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "train").exists()


def test_ctrl_c_ends_all_processes(tmp_path):
    words = [f"{k}={v}" for k, v in OPTIONS.items()]
    ended = python(
        "-m", "mamba_yolo", "train", f"data={DATA}", "epochs=99", f"project={tmp_path}", *words,
        interrupt_at="epoch 1/99: precision",
    )  # fmt: skip
    assert ended.code == 130, ended.text
    assert ended.text.count("stopped: epoch") == 1
    assert ended.text.splitlines()[-1] == "mamba-yolo: interrupted"
    assert "Traceback" not in ended.text
    assert (tmp_path / "train/weights/last.safetensors").is_file()


def test_killed_process_is_named(tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os\nif os.environ['RANK'] == '1':\n    os.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert start_processes(2, "dies", "") == "rank 1 was ended by signal 9"


def test_first_cause_is_chosen(tmp_path):
    assert launch_module._first_error(tmp_path) is None
    said = [
        '{"type": "RankLostError", "text": "rank 0: lost", "time": 1, "trace": ""}',
        '{"type": "DataError", "text": "no boxes", "time": 3, "trace": "where"}',
        '{"type": "", "text": "rank 2: unexpected KeyError", "time": 4, "trace": ""}',
    ]
    expected = (RankLostError, DataError, DataError)
    for rank, (text, kind) in enumerate(zip(said, expected, strict=True)):
        (tmp_path / f"error-{rank}.json").write_text(text)
        assert type(launch_module._first_error(tmp_path)) is kind
    (tmp_path / "error-1.json").unlink()
    assert type(launch_module._first_error(tmp_path)) is TrainingError


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "cpu,cpu", "batch": 5}, "batch=5 cannot be shared by the 2 processes"),
        ({"device": "cpu,auto"}, "name each GPU once, or cpu once per process"),
        ({"device": "cpu,gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_what_cannot_work_is_refused_before_a_process_starts(tmp_path, monkeypatch, options, match):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "auto" in options["device"])
    with pytest.raises(ConfigError, match=match):
        train(tiny.tiny_config(tmp_path, **options))


def test_a_chosen_batch_passes(tmp_path):
    launch_module._check(tiny.tiny_config(tmp_path, device="cpu,cpu", batch=-1), ["cpu", "cpu"], stays_behind=False)


def test_missing_gpu_hooks_and_callbacks_are_refused(tmp_path):
    with pytest.raises(BackendError, match="device 7 asks for GPU 7"):
        train(tiny.tiny_config(tmp_path, device="7,8"))
    config = tiny.tiny_config(tmp_path, device="cpu,cpu")
    for options in ({"hook": print}, {"callbacks": [Callback()]}):
        with pytest.raises(ConfigError, match="know no hook or callback of this one"):
            train(config, **options)


def test_result_survives_the_way_between_processes(tmp_path):
    boxes = np.array([[1, 2, 30, 40], [5, 5, 20, 20]], np.float32)
    truth = Truth(boxes, np.array([0, 1]), np.zeros(2, bool), np.array([1102.0, 225.0]))
    rows = np.concatenate([boxes + 1, np.array([[0.9, 0], [0.1 + 0.2, 1]])], axis=1).astype(np.float32)
    metrics = dataclasses.replace(evaluate([truth], [rows], {0: "a", 1: "b", 2: "none"}), speed_ms={"nms": 1 / 3})
    result = TrainResult(tmp_path, tmp_path / "best.safetensors", metrics, 3, 4)
    write_result(tmp_path / "result.json", result)
    again = read_result(tmp_path / "result.json")
    assert again == result
    assert again.best_metrics.to_dict() == metrics.to_dict()
    assert all(map(np.array_equal, again.best_metrics.curves, metrics.curves))
    assert np.array_equal(again.best_metrics.precision50, metrics.precision50)
    for mine, other in zip(again.best_metrics.verdicts, metrics.verdicts, strict=True):
        for a, b in zip((*mine.truth, *mine[1:]), (*other.truth, *other[1:]), strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype
