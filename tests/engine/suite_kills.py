"""Tiny ablation suites that are killed and gone on with, in forked children: `python suite_kills.py FOLDER MOMENT...`.

A child sends itself SIGKILL at the given forward pass in training; a second goes on to the end. FOLDER/straight is a
suite that was never killed. One thread, so that forking is safe.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from engine import tiny
from mamba_yolo.engine import ablation
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.models.ablation import chosen_rows


def install():
    tiny.install(setattr)
    ablation.open_dataset, ablation.Detector = tiny.open_tiny, tiny.TinyDetector


def suite(project):
    config = tiny.tiny_config(project, model="n", name="suite", epochs=2)
    return ablation.run_rows(config, chosen_rows(("base", "mlp")), (0,), progress=Reporter(quiet=True))


def kill_at(moment):
    left, forward = [moment], tiny.TinyDetector.forward

    def watched(detector, images):
        left[0] -= detector.training
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(detector, images)

    tiny.TinyDetector.forward = watched


def child(project, moment):
    """Fork, run, and return how it ended; moment 0 is never."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kill_at(moment)
            suite(project)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def main(top, moments):
    install()
    suite(top / "straight")
    for moment in moments:
        assert child(top / moment, int(moment)) == signal.SIGKILL
        assert child(top / moment, 0) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
