"""Folders of runs: runs/train, runs/train2, … Test: tests/engine/test_runs.py."""

from __future__ import annotations

import itertools
from pathlib import Path

from mamba_yolo.errors import SaveError


def new_run_folder(project: str, name: str) -> Path:
    """Make and return the first of project/name, project/name2, project/name3, … that does not exist yet.

    Raises:
        SaveError: the project cannot hold folders.
    """
    base = Path(project) / name
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        for folder in itertools.chain([base], (base.with_name(f"{name}{i}") for i in itertools.count(2))):
            if _made(folder):
                return folder
    except OSError as error:
        raise SaveError(f"cannot make a run folder {base}: {error}; choose another --project") from error
    raise AssertionError("numbers do not end")


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
