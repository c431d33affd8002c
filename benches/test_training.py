"""A training step: of t beside our own torch definition, of t, n and n-seg beside YOLOv8s, n and n-seg, and its memory.

Run: `pytest benches/test_training.py --benchmark-only -s`. The scan's gradients are held to float64 in test_scan.py.
"""

from __future__ import annotations

import pytest

import peers
from timing import Process, medians, processes

FULL_PX = 640
DEFINITION_PX = 160  # one token at a time: seconds here, a minute or more at 640 px
MEMORY_BATCH = 4
STEPS_FOR_MEMORY = 2  # the second has the optimizer's momentum
PEERS = {"t": "yolov8s", "n": "yolov8n", "n-seg": "yolov8n-seg"}


def step_timer(process):
    return lambda: process.ask()["seconds"]


def compare(benchmark, figure, what, commands, rounds):
    """Steps of several processes in turn; commands give the arguments and environment of each."""
    running = [Process("training", *arguments, **environment) for arguments, environment in commands.values()]
    with processes(*running):
        timers = {name: step_timer(process) for name, process in zip(commands, running, strict=True)}
        found = medians(timers, rounds)
        figure(what, found.pop("ours") * 1e3, {name: s * 1e3 for name, s in found.items()})
        benchmark.pedantic(timers["ours"], rounds=3)


def test_step_beside_definition(benchmark, figure):
    arguments = ("ours", "t", DEFINITION_PX, 1)
    definition = {"torch definition": (arguments, {"MAMBA_YOLO_BACKEND": "reference"})}
    what = f"training step t, {DEFINITION_PX} px, one image"
    compare(benchmark, figure, what, {"ours": (arguments, {})} | definition, rounds=2)


@pytest.mark.parametrize("preset", PEERS)
def test_step(benchmark, figure, preset):
    commands = {"ours": (("ours", preset, FULL_PX, 2), {})}
    if peers.version("ultralytics"):
        commands[PEERS[preset]] = (("ultralytics", PEERS[preset], FULL_PX, 2), {})
    compare(benchmark, figure, f"training step {preset}, {FULL_PX} px, 2 images", commands, rounds=3)


def memory(*arguments):
    """Most memory of a fresh process, and how much of it came with the steps, in MiB."""
    with processes(Process("training", *arguments)) as (process,):
        for _ in range(STEPS_FOR_MEMORY):
            measured = process.ask()
    return measured["peak_mib"], measured["peak_mib"] - measured["before_mib"]


@pytest.mark.parametrize("preset", PEERS)
def test_memory(benchmark, figure, preset):
    ours = benchmark.pedantic(memory, ("ours", preset, FULL_PX, MEMORY_BATCH), rounds=1)
    peer = memory("ultralytics", PEERS[preset], FULL_PX, MEMORY_BATCH) if peers.version("ultralytics") else None
    for i, what in enumerate(("process at most", "added by the steps")):
        others = {PEERS[preset]: peer[i]} if peer else {}
        figure(f"training {preset}, {FULL_PX} px, {MEMORY_BATCH} images, {what}", ours[i], others, unit="MiB")
