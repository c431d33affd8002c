"""The detectors t and n at 640 px, one image, beside YOLOv8s and YOLOv8n: image tensor to decoded boxes and scores.

Run: `pytest benches/test_detector.py --benchmark-only -s`. Batch norms are folded on both sides; the peer runs in its
default layout and in the faster one. Medians over several processes of each, asked in turn: single ones differ by 20 %.
"""

from __future__ import annotations

import pytest

import peers
from timing import Process, medians, processes

PROCESSES = 3
PEERS = {"t": "yolov8s", "n": "yolov8n"}


@pytest.mark.parametrize("preset", PEERS)
def test_forward(benchmark, figure, preset):
    commands = {"ours": ("ours", preset)}
    if peers.version("ultralytics"):
        commands[PEERS[preset]] = ("ultralytics", PEERS[preset], "default")
        commands[f"{PEERS[preset]} channels last"] = ("ultralytics", PEERS[preset], "channels_last")
    found = {name: [] for name in commands}
    for turn in range(PROCESSES):
        with processes(*(Process("detector", *command) for command in commands.values())) as running:
            timers = {name: process.ask for name, process in zip(commands, running, strict=True)}
            for name, median in medians(timers, rounds=7).items():
                found[name].append(median * 1e3)
            if turn == 0:
                benchmark.pedantic(timers["ours"], rounds=3)
    middle = {name: sorted(values)[PROCESSES // 2] for name, values in found.items()}
    benchmark.extra_info["processes"] = found
    ours = middle.pop("ours")
    for name, peer in middle.items():
        figure(f"detector {preset}, 640 px, one image", ours, {name: peer})
    if not middle:
        figure(f"detector {preset}, 640 px, one image", ours)
