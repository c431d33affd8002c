"""Training pictures from files: plain, mosaic, from a RAM cache, mixup, rotated, beside the peers where installed.

Run: `pytest benches/test_augment.py --benchmark-only -s`. Milliseconds per picture, the best of interleaved epochs of
1024 pictures at 640 px, each side in processes of its own with the same settings (`alone/loading.py`). On one thread it
is processor time, so that other work on the machine does not count; on two cores it is time by the clock, the peer with
its best number of workers. Asserted: every picture comes once, and ours decodes it once
or, from a cache, never. The peer's partners for mixup are decoded again, which is printed.
"""

from __future__ import annotations

import dataclasses
import os

import pytest

import peers
from loaders import loading, per_picture
from mamba_yolo.data import AugmentConfig
from timing import processes

PLAIN = AugmentConfig(mosaic=0.0)
MOSAIC = AugmentConfig()
ROWS = {
    "without mosaic": (PLAIN, "off", ["ultralytics", "albumentations"]),
    "mosaic": (MOSAIC, "off", ["ultralytics"]),
    "mosaic from RAM cache": (MOSAIC, "ram", ["ultralytics"]),
    "mosaic from disk cache": (MOSAIC, "disk", []),
    "mosaic, mixup 1.0": (dataclasses.replace(MOSAIC, mixup=1.0), "off", ["ultralytics"]),
    "mosaic, degrees 10, shear 2": (dataclasses.replace(MOSAIC, degrees=10.0, shear=2.0), "off", []),
}
MOST_DECODES = {"off": 1.1, "ram": 0, "disk": 0}  # per picture
MOST_WORKERS = 3


@pytest.mark.parametrize("what", ROWS)
def test_one_thread(benchmark, figure, photos, what):
    augment, cache, names = ROWS[what]
    made = {"ours": loading("ours", photos, threads=1, cache=cache, augment=augment)}
    for name in filter(peers.version, names):
        made[name] = loading(name, photos, threads=0, cache=cache, augment=augment)
    with processes(*made.values()):
        found = per_picture(made, "processor", MOST_DECODES[cache])
        figure(f"{what}, 1 thread, per picture", found.pop("ours"), found)
        benchmark.pedantic(lambda: made["ours"].ask("warm"), rounds=1)


def test_two_cores(benchmark, figure, photos):
    made = {"ours": loading("ours", photos, threads=2, augment=MOSAIC)}
    if peers.version("ultralytics"):
        for workers in range(1, min(os.cpu_count(), MOST_WORKERS) + 1):
            name = f"ultralytics, {workers} worker{'s'[: workers - 1]}"
            made[name] = loading("ultralytics", photos, threads=workers, augment=MOSAIC)
    with processes(*made.values()):
        found = per_picture(made, "wall")
        figure("mosaic, 2 cores, per picture", found.pop("ours"), found)
        benchmark.pedantic(lambda: made["ours"].ask("warm"), rounds=1)
