"""Files written by the thread: what was copied, in order, and errors that are not lost."""

from __future__ import annotations

import threading

import pytest
import torch

from engine import tiny
from mamba_yolo.engine import checkpoint, writer
from mamba_yolo.engine.checkpoint import Checkpoint
from mamba_yolo.engine.writer import Writer
from mamba_yolo.errors import SaveError


def checkpoint_of(detector):
    return Checkpoint(detector.config, tiny.NAMES, detector.state_dict())


def test_weights_may_change_while_they_are_written(tmp_path, monkeypatch):
    go = threading.Event()
    real = checkpoint.Snapshot.write
    monkeypatch.setattr(checkpoint.Snapshot, "write", lambda self, path: (go.wait(), real(self, path)))
    detector = tiny.tiny_detector()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    files = Writer()
    files.put([(tmp_path / "a.safetensors", checkpoint_of(detector))])
    assert not (tmp_path / "a.safetensors").exists()  # the thread waits, we do not
    with torch.no_grad():
        for value in detector.parameters():
            value.zero_()
    go.set()
    files.wait()
    stored = checkpoint.load(tmp_path / "a.safetensors").weights
    assert all(torch.equal(stored[k], before[k]) for k in before)


def test_files_come_in_the_order_given(tmp_path, monkeypatch):
    seen = []
    real = writer.Snapshot.write
    monkeypatch.setattr(checkpoint.Snapshot, "write", lambda self, path: (seen.append(path.name), real(self, path)))
    files = Writer()
    for n in range(3):
        files.put([(tmp_path / f"{n}{which}", checkpoint_of(tiny.tiny_detector())) for which in "bl"])
    files.wait()
    assert seen == ["0b", "0l", "1b", "1l", "2b", "2l"]


@pytest.mark.parametrize("method", ["put", "wait"])
def test_an_error_comes_with_the_next_call_and_once(tmp_path, method):
    files = Writer()
    files.put([(tmp_path / "no such folder" / "a", checkpoint_of(tiny.tiny_detector()))])
    with pytest.raises(SaveError, match="cannot save"):
        files.wait() if method == "wait" else files.put([])
    files.wait()
