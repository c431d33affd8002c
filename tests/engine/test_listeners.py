"""Callbacks by name: found where the user says, refused in one line, never taken from a file."""

from __future__ import annotations

import sys

import pytest

from engine import tiny
from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.listeners import TRACKERS, make_callbacks
from mamba_yolo.engine.loggers import Logger
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import ConfigError

QUIET = Reporter(quiet=True)
WATCHER = """
from mamba_yolo.engine.callbacks import Callback
seen = []
class Watch(Callback):
    def on_epoch_end(self, epoch, row, metrics):
        seen.append(epoch)
class NotOne: pass
"""


class Stop(Callback):
    def on_epoch_end(self, epoch, row, metrics):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture
def watcher(tmp_path, monkeypatch):
    (tmp_path / "my_watcher.py").write_text(WATCHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_watcher", None)


def test_trackers_load_without_their_packages():
    made = make_callbacks(TRACKERS, QUIET)
    assert [c.extra for c in made if isinstance(c, Logger)] == list(TRACKERS)


@pytest.mark.usefixtures("watcher")
def test_a_class_of_the_users_own_hears_every_epoch(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    train(tiny.tiny_config(tmp_path, callbacks=("my_watcher:Watch",)), model=tiny.tiny_detector(), progress=QUIET)
    assert sys.modules["my_watcher"].seen == [1, 2, 3, 4]


@pytest.mark.usefixtures("watcher")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "is none of tensorboard, wandb, mlflow"),
        ("my_watcher:", "and not package.module:Class"),
        ("my_watcher:Gone", "cannot import 'my_watcher:Gone'"),
        ("no_such_module:Watch", "cannot import 'no_such_module:Watch'.*PYTHONPATH"),
        ("my_watcher:NotOne", "is no subclass"),
        ("os.path:join", "is no subclass"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        make_callbacks([name], QUIET)


@pytest.mark.usefixtures("watcher")
def test_a_resumed_run_imports_nothing_that_its_checkpoint_names(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)

    config = tiny.tiny_config(tmp_path, callbacks=("my_watcher:Watch",))
    with pytest.raises(KeyboardInterrupt):
        train(config, model=tiny.tiny_detector(), callbacks=[Stop()], progress=QUIET)
    del sys.modules["my_watcher"]
    result = train(tiny.tiny_config(tmp_path, resume=True), progress=QUIET)
    assert result.epochs == 4
    assert "my_watcher" not in sys.modules


@pytest.mark.usefixtures("watcher")
def test_a_resumed_run_may_have_other_listeners(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.tiny_config(tmp_path), model=tiny.tiny_detector(), callbacks=[Stop()], progress=QUIET)
    train(tiny.tiny_config(tmp_path, resume=True, callbacks=("my_watcher:Watch",)), progress=QUIET)
    assert sys.modules["my_watcher"].seen == [3, 4]


def test_one_name_or_a_list():
    assert TrainConfig(callbacks="wandb").callbacks == ("wandb",)
    assert TrainConfig(callbacks=["wandb", "a:B"]).callbacks == ("wandb", "a:B")
