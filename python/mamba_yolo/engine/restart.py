"""Ranks that torchrun starts again (`--max-restarts`) go on from the last checkpoint of their run.

The run folder remembers which job of torchrun it belongs to. Test: tests/engine/test_ranks.py.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_yolo.engine.safefile import write_text

if TYPE_CHECKING:
    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.ranks import Ranks

JOB_FILE = ".torchrun"


def mark_run(folder: Path, ranks: Ranks) -> None:
    """Write the job into the run folder, where there is one."""
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    if job and ranks.is_first:
        write_text(folder / JOB_FILE, job)


def resumed_after_restart(config: TrainConfig, ranks: Ranks) -> TrainConfig:
    """The options that go on with this job's run, when it was started again and had saved an epoch."""
    if not int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        return config
    found = ranks.same_text(str(_last_of_job(config) or "") if ranks.is_first else "")
    return dataclasses.replace(config, resume=True, model=found) if found else config


def _last_of_job(config: TrainConfig) -> Path | None:
    """The newest weights/last.safetensors of this job; the project may hold runs of others."""
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    marks = [m for m in Path(config.project).glob(f"*/{JOB_FILE}") if m.read_text(encoding="utf-8") == job]
    files = [mark.parent / "weights" / "last.safetensors" for mark in marks]
    return max((f for f in files if f.is_file()), key=lambda f: f.stat().st_mtime, default=None)
