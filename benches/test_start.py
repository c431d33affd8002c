"""From the start of a process to the first batch that waits for the first step of a training, beside YOLOv8n.

Run: `pytest benches/test_start.py --benchmark-only -s`. n at 320 px on the packaged photographs: what is timed are
imports, the scan of the data, the network and the loader. The label cache of either side is warm after the first round.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import peers
from mamba_yolo.cli.demo import DATA
from timing import BENCHES, medians, seconds


def starter(who, model, folder):
    """Times one start; the photographs are a copy, since the peer writes beside them."""
    place = folder / who
    shutil.copytree(DATA.parent, place / "data")
    command = [sys.executable, str(BENCHES / "alone" / "starting.py"), who, str(place / "data" / DATA.name), model]
    quiet = {"YOLO_CONFIG_DIR": str(place), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    environment = {**os.environ, **quiet, "MAMBA_YOLO_CACHE": str(place / "cache")}

    def start():
        output = subprocess.DEVNULL
        subprocess.run([*command, str(place / "runs")], env=environment, check=True, stdout=output, stderr=output)

    return start


def test_start(benchmark, figure, tmp_path):
    starters = {"ours": starter("ours", "n", tmp_path)}
    if peers.version("ultralytics"):
        starters["YOLOv8n"] = starter("ultralytics", "yolov8n", tmp_path)
    for start in starters.values():
        start()
    found = medians({name: lambda s=start: seconds(s) for name, start in starters.items()}, rounds=3)
    figure("start of train to the first batch, n, 320 px", found.pop("ours"), found, unit="s")
    benchmark.pedantic(starters["ours"], rounds=1)
