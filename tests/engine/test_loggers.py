"""Trackers, with modules that only look like them, and TensorBoard for real; training survives every failure."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from engine import tiny
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.listeners import TRACKERS
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train

QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


def run(folder, tracker, reporter=QUIET, callbacks=(), **options):
    config = tiny.tiny_config(folder / "project", callbacks=(tracker,), **options)
    model = None if options.get("resume") else tiny.tiny_detector()
    return train(config, model=model, callbacks=callbacks, progress=reporter)


class StopAfterTwo(Callback):
    """In the third epoch."""

    validations = 0

    def on_validation_batch(self, batch, detections, masks):
        self.validations += 1
        if self.validations == 3:
            raise KeyboardInterrupt


def fake_module(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def fake_wandb(monkeypatch):
    """Records inits, logged rows and the summary."""
    seen = SimpleNamespace(inits=[], rows=[], summary={}, finished=0)

    def finish():
        seen.finished += 1

    def init(**options):
        seen.inits.append(options)
        log = lambda figures, step: seen.rows.append((step, figures))  # noqa: E731
        return SimpleNamespace(id=options["id"] or "abc", log=log, summary=seen.summary, finish=finish)

    fake_module(monkeypatch, "wandb", init=init)
    return seen


def fake_mlflow(monkeypatch):
    """Records what a server would get."""
    seen = SimpleNamespace(experiment=None, starts=[], params=[], rows=[], ended=0)

    def start_run(**options):
        seen.starts.append(options)
        return SimpleNamespace(info=SimpleNamespace(run_id=options["run_id"] or "r1"))

    def end_run():
        seen.ended += 1

    fake_module(
        monkeypatch,
        "mlflow",
        set_experiment=lambda name: setattr(seen, "experiment", name),
        start_run=start_run,
        log_params=seen.params.append,
        log_metrics=lambda figures, step=None: seen.rows.append((step, figures)),
        end_run=end_run,
    )
    return seen


def test_wandb_gets_options_rows_and_the_best(tmp_path, monkeypatch):
    seen = fake_wandb(monkeypatch)
    result = run(tmp_path, "wandb")
    (init,) = seen.inits
    assert (init["project"], init["name"], init["id"]) == ("project", "train", None)
    assert init["config"]["epochs"] == 4
    assert [step for step, _ in seen.rows] == [1, 2, 3, 4]
    assert {"train/box_loss", "metrics/mAP50-95", "lr/pg0"} <= set(seen.rows[0][1])
    assert seen.summary["best/map50"] == result.best_metrics.map50
    assert seen.finished == 1


def test_mlflow_gets_options_rows_and_the_best(tmp_path, monkeypatch):
    seen = fake_mlflow(monkeypatch)
    run(tmp_path, "mlflow")
    assert seen.experiment == "project"
    assert (seen.params[0]["epochs"], seen.params[0]["mosaic"]) == (4, 1.0)
    assert [step for step, _ in seen.rows] == [1, 2, 3, 4, None]  # the last are those of the best weights
    assert not any("(" in name for _, row in seen.rows for name in row)
    assert seen.ended == 1


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_a_resumed_run_goes_on_under_its_id(tmp_path, monkeypatch, tracker):
    seen = {"wandb": fake_wandb, "mlflow": fake_mlflow}[tracker](monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tracker, callbacks=[StopAfterTwo()])
    run(tmp_path, tracker, resume=True)
    if tracker == "wandb":
        assert [init["id"] for init in seen.inits] == [None, "abc"]
    else:
        assert [start["run_id"] for start in seen.starts] == [None, "r1"]
        assert len(seen.params) == 1


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, capsys, tracker):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if tracker == "tensorboard" else tracker, None)
    assert run(tmp_path, tracker, Reporter()).epochs == 4
    lines = [line for line in capsys.readouterr().err.splitlines() if f"mamba-yolo[{tracker}]" in line]
    assert len(lines) == 1
    assert "training goes on without it" in lines[0]


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_a_server_error_is_one_line(tmp_path, monkeypatch, capsys, failing):
    seen = fake_wandb(monkeypatch)
    init = sys.modules["wandb"].init

    def fails(*_args, **_options):
        raise RuntimeError("502\nbad gateway")

    def broken_init(**options):
        tracked = init(**options)
        setattr(tracked, failing, fails)
        return tracked

    sys.modules["wandb"].init = fails if failing == "init" else broken_init
    assert run(tmp_path, "wandb", Reporter()).epochs == 4
    err = capsys.readouterr().err
    assert err.count("wandb: RuntimeError: 502 bad gateway; training goes on without it") == 1
    assert seen.rows == [] or failing == "finish"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_writes_curves_that_can_be_read(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'mamba-yolo[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "tensorboard", callbacks=[StopAfterTwo()])
    result = run(tmp_path, "tensorboard", resume=True)
    events = EventAccumulator(str(result.run_dir)).Reload()
    assert [e.step for e in events.Scalars("train/box_loss")] == [1, 2, 3, 4]
    (best,) = events.Scalars("best/map50")
    assert best.value == pytest.approx(result.best_metrics.map50, abs=1e-6)
