"""Rows of the ablation table trained in a folder: what is finished stays, what was stopped goes on, nothing mixes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import tiny
from mamba_yolo.engine import ablation
from mamba_yolo.engine.ablation import measured, run_rows
from mamba_yolo.engine.checkpoint import Checkpoint, load, load_model, save
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import ConfigError
from mamba_yolo.models import Detector
from mamba_yolo.models.ablation import ABLATION, chosen_rows, row_config

TESTS = Path(__file__).parents[1]
QUIET = Reporter(quiet=True)
ROWS = chosen_rows(("base", "mlp"))


@pytest.fixture
def stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)
    monkeypatch.setattr(ablation, "open_dataset", tiny.open_tiny)
    monkeypatch.setattr(ablation, "Detector", tiny.TinyDetector)


@pytest.fixture
def trained(monkeypatch, stand_ins):
    """Names of the runs that `train` was asked for."""
    asked = []

    def watched(config, **options):
        asked.append((config.name, config.resume))
        return train(config, **options)

    monkeypatch.setattr(ablation, "train", watched)
    return asked


def suite(folder, **options):
    return tiny.tiny_config(folder, **{"model": "n", "name": "suite", "epochs": 2, **options})


def figures(folder):
    return [m._replace(minutes=0) for m in measured(folder)]


def test_every_row_is_trained_once_with_every_seed(tmp_path, trained):
    told = []
    folder = run_rows(suite(tmp_path), ROWS, (0, 3), progress=QUIET, finished=lambda f: told.append(len(measured(f))))
    assert [name for name, _ in trained] == ["base-seed0", "mlp-seed0", "base-seed3", "mlp-seed3"]
    runs = measured(folder)
    assert [(m.row, m.seed, m.epochs) for m in runs] == [("base", 0, 2), ("base", 3, 2), ("mlp", 0, 2), ("mlp", 3, 2)]
    assert told == [0, 1, 2, 3, 4]
    for m in runs:
        best = load(folder / f"{m.row}-seed{m.seed}/weights/best.safetensors")
        assert best.figures["map50_95"] == m.map50_95
        assert best.arch == row_config(chosen_rows((m.row,))[0], "n", 2)


def test_a_run_is_what_train_makes_of_the_same_preset_and_seed(tmp_path, stand_ins):
    folder = run_rows(suite(tmp_path), ROWS[:1], (5,), progress=QUIET)
    torch.manual_seed(5)
    alone = train(suite(tmp_path, seed=5), model=tiny.TinyDetector(row_config(ROWS[0], "n", 2)), progress=QUIET)
    tiny.assert_same_run(folder / "base-seed5", alone.run_dir)


def test_what_is_finished_is_not_trained_again(tmp_path, trained):
    folder = run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    before = measured(folder)
    run_rows(suite(tmp_path), ROWS, (0,), progress=QUIET)
    assert [name for name, _ in trained] == ["base-seed0", "mlp-seed0"]
    assert measured(folder)[:1] == before


def test_an_interrupted_suite_goes_on_to_the_same_figures(tmp_path, trained, monkeypatch, capsys):
    straight = run_rows(suite(tmp_path / "straight"), ROWS, (0,), progress=QUIET)
    steps, take = [], tiny.TinyDetector.forward

    def interrupted(detector, images):
        steps.append(detector.training)
        if steps.count(True) == 7:  # in the second epoch of the second run
            os.kill(os.getpid(), signal.SIGINT)
        return take(detector, images)

    monkeypatch.setattr(tiny.TinyDetector, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_rows(suite(tmp_path / "stopped"), ROWS, (0,))
    monkeypatch.setattr(tiny.TinyDetector, "forward", take)
    assert "suite: 1; the same command goes on" in capsys.readouterr().err
    stopped = run_rows(suite(tmp_path / "stopped"), ROWS, (0,), progress=QUIET)
    assert trained[2:] == [("base-seed0", False), ("mlp-seed0", False), ("mlp-seed0", True)]
    assert figures(stopped) == figures(straight)
    tiny.assert_same_run(straight / "mlp-seed0", stopped / "mlp-seed0")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_suite_goes_on_to_the_same_figures(tmp_path):
    """Killed at a step of four of each run: before its first checkpoint, and after it."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    moments = ["1", "3", "6", "8"]
    command = [sys.executable, str(TESTS / "engine/suite_kills.py"), str(tmp_path), *moments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    straight = tmp_path / "straight/suite"
    assert len(measured(straight)) == 2
    for moment in moments:
        killed = tmp_path / moment / "suite"
        assert figures(killed) == figures(straight)
        assert sorted(f.name for f in killed.iterdir() if f.is_dir()) == ["base-seed0", "mlp-seed0"]


def test_a_run_stopped_between_its_end_and_its_result_needs_no_training(tmp_path, trained):
    folder = run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    before = measured(folder)
    (folder / "base-seed0/result.json").unlink()
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    assert len(trained) == 1
    assert measured(folder) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "its runs have epochs 2, this one would have 3"),
        ({"lr0": 0.1}, "its runs have lr0 0.01, this one would have 0.1"),
        ({"model": "t"}, "its runs have model n, this one would have t"),
        ({"data": "other"}, "its runs have data .*tiny, this one would have .*other"),
        ({"augment": {"mosaic": 0.5}}, "its runs have mosaic 1.0, this one would have 0.5"),
    ],
    ids=str,
)
def test_other_settings_are_refused(tmp_path, trained, changes, message):
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    config = suite(tmp_path)
    if "augment" in changes:
        changes = {"augment": replace(config.augment, **changes["augment"])}
    with pytest.raises(ConfigError, match=message):
        run_rows(replace(config, **changes), ROWS, (0,), progress=QUIET)
    assert len(trained) == 1


def test_other_data_under_the_same_name_is_refused(tmp_path, trained, monkeypatch):
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    monkeypatch.setattr(ablation, "open_dataset", lambda path, split: tiny.TinyDataset(9))
    with pytest.raises(ConfigError, match="training images 8, this one would have 9"):
        run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)


def test_settings_may_change_while_nothing_is_trained(tmp_path, trained, monkeypatch):
    with pytest.raises(ConfigError, match="unknown model 'tt'"):
        run_rows(suite(tmp_path, model="tt"), ROWS, (0,), progress=QUIET)
    assert not (tmp_path / "suite").exists()
    with monkeypatch.context() as patch:
        patch.setattr(tiny.TinyDetector, "forward", None)
        with pytest.raises(TypeError):
            run_rows(suite(tmp_path, lr0=0.5), ROWS[:1], (0,), progress=QUIET)
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    assert json.loads((tmp_path / "suite/settings.json").read_text())["lr0"] == 0.01


def test_device_and_threads_may_change(tmp_path, trained):
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    run_rows(suite(tmp_path, workers=3, save_period=1), ROWS, (0,), progress=QUIET)
    assert len(trained) == 2


def test_another_network_under_the_same_name_is_refused(tmp_path, trained):
    run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    changed = [ROWS[0]._replace(change={"channel_mlp": "mlp", "state_size": 8})]
    with pytest.raises(ConfigError, match="base-seed0: of a network with other channel_mlp, state_size"):
        run_rows(suite(tmp_path), changed, (0,), progress=QUIET)


@pytest.mark.parametrize("row", ABLATION, ids=[row.name for row in ABLATION])
def test_a_weights_file_of_every_network_loads_as_the_same(tmp_path, row):
    torch.manual_seed(0)
    detector = Detector(row_config(row, "n", num_classes=2)).eval()
    path = tmp_path / "a.safetensors"
    save(path, Checkpoint(arch=detector.config, names={0: "a", 1: "b"}, weights=detector.state_dict()))
    loaded = load_model(path).detector
    assert loaded.config == detector.config
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(detector(image).levels, loaded(image).levels, strict=True):
            assert ours.equal(theirs)


def test_results_of_rows_that_are_no_more_are_left_out(tmp_path, trained):
    folder = run_rows(suite(tmp_path), ROWS[:1], (0,), progress=QUIET)
    path = folder / "base-seed0/result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "row": "gone"}))
    assert measured(folder) == []
