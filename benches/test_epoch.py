"""What an epoch of training takes beside forward, backward and optimizer; the first step; the stall of a checkpoint.

Run: `pytest benches/test_epoch.py --benchmark-only -s`. n at 320 px on the packaged photographs, in this process. There
is no peer: the figures are shares of our own epoch. That training is the same with all of it is held in tests/engine.
"""

from __future__ import annotations

import time

import pytest

from mamba_yolo.cli.demo import DATA
from mamba_yolo.config import TrainConfig
from mamba_yolo.engine import train as training_loop
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.step import Stepper
from mamba_yolo.engine.writer import Writer

EPOCHS = 3  # the first also starts the loader and is left out, the last also validates


class Clock:
    """Seconds in some functions, by epoch."""

    def __init__(self, monkeypatch):
        self.patch, self.now, self.epochs, self.first_step = monkeypatch, {}, [], None

    def watch(self, owner, name, part):
        real = getattr(owner, name)

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                now = time.perf_counter()
                self.now[part] = self.now.get(part, 0.0) + now - start
                if part == "network" and self.first_step is None:
                    self.first_step = now

        self.patch.setattr(owner, name, timed)

    def watch_epochs(self):
        real = training_loop._run_epoch

        def timed(*args):
            self.now, start = {}, time.perf_counter()
            real(*args)
            self.epochs.append({**self.now, "all": time.perf_counter() - start})

        self.patch.setattr(training_loop, "_run_epoch", timed)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(monkeypatch)
    clock.watch_epochs()
    clock.watch(Stepper, "_backward", "network")
    clock.watch(Stepper, "_update", "optimizer")
    clock.watch(training_loop, "_validate", "validation")
    clock.watch(training_loop, "_save", "saving")
    clock.watch(Writer, "wait", "waiting for the disk")
    return clock


def test_epoch(benchmark, figure, tmp_path, clock):
    options = {"model": "n", "imgsz": 320, "epochs": EPOCHS, "device": "cpu", "plots": False, "val_period": EPOCHS}
    config = TrainConfig(data=str(DATA), project=str(tmp_path), **options)
    start = time.perf_counter()
    benchmark.pedantic(training_loop.train, (config,), {"progress": Reporter(quiet=True)}, rounds=1)
    figure("start of train to first gradients, n, 320 px", (clock.first_step - start) * 1e3)
    for number, parts in enumerate(clock.epochs[1:], 2):
        whole = parts["all"] - parts.get("validation", 0.0)
        beside = whole - parts["network"] - parts["optimizer"]
        figure(f"epoch {number}, beside forward, backward and optimizer", 100 * beside / whole, unit="% of the epoch")
        figure(f"epoch {number}, stall of saving", 100 * parts["saving"] / whole, unit="% of the epoch")
        print({name: round(seconds, 4) for name, seconds in parts.items()})
