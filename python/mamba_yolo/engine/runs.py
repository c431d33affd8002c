"""Folders of runs: runs/train, runs/train2, … Test: tests/engine/test_runs.py."""

from __future__ import annotations

import itertools
from pathlib import Path


def new_run_folder(project: str, name: str) -> Path:
    """Make and return the first of project/name, project/name2, project/name3, … that does not exist yet."""
    base = Path(project) / name
    base.parent.mkdir(parents=True, exist_ok=True)
    for folder in itertools.chain([base], (base.with_name(f"{name}{i}") for i in itertools.count(2))):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("numbers do not end")
