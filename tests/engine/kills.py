"""Tiny runs that are killed and gone on with, in forked children: `python kills.py FOLDER POINT...`.

A child counts the moments that matter: steps, rows and checkpoints half written, flushed, renamed. It sends itself
SIGKILL at the given one. What is left goes on in a second child, which also may be killed after so many milliseconds
(POINT `ms:7`). Run folders are printed, first that of a run that was never killed. One thread, so that forking is safe.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import safetensors.torch

from engine import tiny
from mamba_yolo.engine import checkpoint, recorder, step
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train

EPOCHS = 3


class Moments:
    """Counts; at number `last` the process is gone."""

    def __init__(self, last):
        self.left = last

    def __call__(self):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def watch(moment):
    """Call `moment` around everything that changes the weights or the disk."""

    def around(function):
        def watched(*args, **kwargs):
            moment()
            result = function(*args, **kwargs)
            moment()
            return result

        return watched

    def save_halves(tensors, path, metadata):
        data = safetensors.torch.save(tensors, metadata)
        with Path(path).open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            moment()
            file.write(data[len(data) // 2 :])

    append = recorder._append

    def append_halves(path, text):
        append(path, text[: len(text) // 2])
        moment()
        append(path, text[len(text) // 2 :])

    os.replace = around(os.replace)
    os.fsync = lambda _: moment()  # slow, and a kill takes nothing that the system has
    checkpoint.save_file, recorder._append = save_halves, append_halves
    step.Stepper._update = around(step.Stepper._update)


def run(folder):
    """Start, or go on with what there is, to the end; returns the run folder."""
    tiny.install(setattr)
    last = folder / "train/weights/last.safetensors"
    resumes = last.is_file()
    if resumes and checkpoint.saved_epoch(last) == EPOCHS:  # killed when all was done
        return folder / "train"
    config = tiny.tiny_config(folder, epochs=EPOCHS, resume=resumes)
    return train(config, model=None if resumes else tiny.tiny_detector(), progress=Reporter(quiet=True)).run_dir


def child(folder, last, delay_s=None):
    """Fork, run, and tell whether the run came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            watch(Moments(last))
            (folder / "done").write_text(str(run(folder)))
        finally:
            os._exit((folder / "done").is_file() - 1)
    if delay_s is not None:
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


def main(top, points):
    print(run(top / "straight"))  # noqa: T201 - and everything is imported for the children
    for point in points:
        folder = top / point.replace(":", "")
        folder.mkdir()
        for _ in range(2):
            if child(folder, *((-1, int(point[3:]) / 1000) if point.startswith("ms:") else (int(point),))):
                break
        else:
            assert child(folder, -1)
        print((folder / "done").read_text(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
