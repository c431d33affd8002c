"""Disks that are full or read-only, data that is gone: one line says so, and the run goes on from its last epoch."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

import pytest

from engine import tiny
from mamba_yolo.engine import prepare
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import CheckpointError, ImageError, SaveError

QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


class After(Callback):
    """Does something after an epoch, whose own checkpoint may still be on its way."""

    def __init__(self, action, epoch=1):
        self.action, self.epoch = action, epoch

    def on_epoch_end(self, epoch, row, metrics):
        if epoch == self.epoch:
            self.action()


def assert_goes_on(folder, straight, capsys):
    """The error said where, and what is left becomes the run that never failed."""
    assert re.search("epoch [12] is safe in", capsys.readouterr().err)
    resumed = train(tiny.tiny_config(folder, resume=True), progress=QUIET)
    tiny.assert_same_run(straight.run_dir, resumed.run_dir)


@pytest.fixture
def straight(tmp_path):
    return train(tiny.tiny_config(tmp_path / "straight"), model=tiny.tiny_detector(), progress=QUIET)


def test_no_room_for_a_larger_file(tmp_path, straight, capsys):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    last = tmp_path / "full/train/weights/last.safetensors"
    small = After(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1])), epoch=2)
    try:
        with pytest.raises(SaveError, match=r"cannot save .*(last|best)\.safetensors: .*free space"):
            train(tiny.tiny_config(tmp_path / "full"), model=tiny.tiny_detector(), callbacks=[small])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in last.parent.iterdir()} == {"last.safetensors", "best.safetensors"}
    assert_goes_on(tmp_path / "full", straight, capsys)


def test_folder_that_turns_read_only(tmp_path, straight, capsys, monkeypatch):
    real = Path.open

    def refuse(path, mode="r", *args, **options):
        if mode == "a":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, mode, *args, **options)

    action = After(lambda: monkeypatch.setattr(Path, "open", refuse))
    with pytest.raises(SaveError, match=r"cannot write .*results\.csv: .*Read-only .*--resume"):
        train(tiny.tiny_config(tmp_path / "ro"), model=tiny.tiny_detector(), callbacks=[action])
    monkeypatch.setattr(Path, "open", real)
    assert_goes_on(tmp_path / "ro", straight, capsys)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match=r"cannot make a run folder .*choose another --project"):
        train(tiny.tiny_config(tmp_path / "file"), model=tiny.tiny_detector(), progress=QUIET)


def test_run_folder_that_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/weights").write_text("")
    monkeypatch.setattr(prepare, "new_run_folder", lambda project, name: tmp_path / "train")
    with pytest.raises(SaveError, match=r"cannot write .*make it writable"):
        train(tiny.tiny_config(tmp_path), model=tiny.tiny_detector(), progress=QUIET)


def test_data_folder_that_disappears(tmp_path, straight, capsys, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()

    class Loader(tiny.TinyLoader):
        def epoch(self, number):
            for batch in super().epoch(number):
                if not folder.is_dir():
                    raise ImageError(f"{folder}/image3.png: No such file or directory")
                yield batch

    monkeypatch.setattr(prepare, "Loader", Loader)
    lost = After(lambda: shutil.rmtree(folder))
    with pytest.raises(ImageError, match=r"image3\.png: No such file"):
        train(tiny.tiny_config(tmp_path / "lost"), model=tiny.tiny_detector(), callbacks=[lost])
    folder.mkdir()
    assert_goes_on(tmp_path / "lost", straight, capsys)


def test_data_that_changed_in_between_is_another_run(tmp_path, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny.tiny_config(tmp_path), model=tiny.tiny_detector(), callbacks=[After(stop)], progress=QUIET)
    monkeypatch.setattr(prepare, "open_dataset", lambda path, split: tiny.TinyDataset(9))
    with pytest.raises(CheckpointError, match="trains on 8 images, tiny has 9 now; bring them back"):
        train(tiny.tiny_config(tmp_path, resume=True), progress=QUIET)
