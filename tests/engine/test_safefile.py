"""A file is the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from mamba_yolo.engine.safefile import write_atomic, write_text
from mamba_yolo.errors import SaveError

if TYPE_CHECKING:
    from pathlib import Path


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_replaces(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(SaveError, match=r"cannot save .*a\.txt.*No space left on device.*untouched"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_half_way(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        full_disk()

    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupt_half_way_cleans_up(tmp_path):
    def stop(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", stop)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".a.txt.tmp").write_text("half of an older fi")
    write_text(tmp_path / "a.txt", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_missing_folder_is_said(tmp_path):
    with pytest.raises(SaveError, match="cannot save"):
        write_text(tmp_path / "no" / "a.txt", "x")
