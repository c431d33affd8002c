"""kill -9 at any moment, twice in a row, and the run that goes on is the run that was never killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import tiny

MOMENTS = (1, 68, 7)  # a run has 68; all of them take two minutes
TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def finished_runs(folder, points):
    """Folders of a run that was never killed, and of those killed at these points."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "engine/kills.py"), str(folder), *points]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [Path(line) for line in done.stdout.split()]


def test_at_moments_all_over_a_run(tmp_path):
    straight, *killed = finished_runs(tmp_path, [str(n) for n in range(*MOMENTS)])
    for run in killed:
        tiny.assert_same_run(straight, run)


def test_at_any_time(tmp_path):
    straight, *killed = finished_runs(tmp_path, [f"ms:{n}" for n in (7, 43, 91, 137, 211)])
    for run in killed:
        tiny.assert_same_run(straight, run)
