"""One training as a folder: started once, resumed after an interruption, never repeated when finished.

`learned(job)` trains in a process of its own (alone/learning.py), ours in this environment, peers by ultralytics
in theirs, and measures the predictions of both with our COCO evaluation, which equals pycocotools (see test_coco.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mamba_yolo.data import Dataset, convert_dataset, open_dataset
from mamba_yolo.engine.masks import true_masks
from mamba_yolo.engine.metrics import MaskPairs, evaluate, truth_of
from mamba_yolo.models.presets import SIZES
from timing import BENCHES

if TYPE_CHECKING:
    from mamba_yolo.ops.masks import Rle

ROOT = BENCHES.parent
OURS = tuple(SIZES)


@dataclass(frozen=True)
class Job:
    """A training from scratch and the split its best weights are measured on.

    Attributes:
        model: n, t, b or l of ours, or the name of an ultralytics network such as yolov8n; -seg behind it for masks.
        data: any data set with the splits train, val and `split`.
        options: further options of the training, for ablations.
    """

    model: str
    data: Path
    imgsz: int = 320
    epochs: int = 100
    batch: int = 16
    seed: int = 0
    split: str = "test"
    device: str = "cpu"
    threads: int = 2
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our presets."""
        return self.model.removesuffix("-seg") in OURS

    @property
    def name(self) -> str:
        """Folder of the run: everything that its result depends on, but the data, which the folder above names."""
        options = "".join(f"-{name}={value}" for name, value in sorted(self.options.items()))
        where = f"{self.threads}t" if self.device == "cpu" else self.device
        split = "" if self.split == "test" else f"-{self.split}"
        return f"{self.model}-{self.imgsz}px-{self.epochs}e-b{self.batch}{options}-{where}-seed{self.seed}{split}"


@dataclass(frozen=True)
class Learned:
    """What one training gave.

    Attributes:
        job: as it was asked for.
        figures: of the split: ap, ap50, and per class ap50 and ap50_95 by name; with masks also mask_ap and mask_ap50.
        hours: of all epochs, with validation and saving, however often it was interrupted.
        images_per_s: training images by the median epoch, without validation.
        parameters: numbers in the network.
        versions: of the packages that trained.
        machine: where it ended.
    """

    job: Job
    figures: dict[str, float]
    hours: float
    images_per_s: float
    parameters: int
    versions: dict[str, str]
    machine: str


def learned(job: Job, folder: Path, peer_python: Path) -> Learned:
    """Train, or find trained, and measure.

    Args:
        job: what to train.
        folder: of all runs; those on one data set have a folder of their own in it.
        peer_python: an interpreter that has ultralytics.
    """
    folder = folder / job.data.name
    place = folder / job.name
    place.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(job.data, job.split)
    predictions, record = place / "predictions.json", place / "machine.txt"
    if not predictions.exists():
        print(f"{time.strftime('%H:%M')}  {job.name}", flush=True)
        _train(job, place, folder, dataset, peer_python)
        record.write_text(machine(job), encoding="utf-8")
    answer = json.loads(predictions.read_text(encoding="utf-8"))
    epochs = _epochs(place / "epochs.jsonl")
    images = len(open_dataset(job.data, "train"))
    return Learned(
        job,
        figures(dataset, answer["rows"], answer.get("masks")),
        hours=sum(e["wall_s"] for e in epochs) / 3600,
        images_per_s=images / statistics.median(e["train_s"] for e in epochs),
        parameters=answer["parameters"],
        versions=answer["versions"],
        machine=record.read_text(encoding="utf-8"),
    )


def figures(
    dataset: Dataset, rows: dict[str, list[list[float]]], masks: dict[str, list[Rle]] | None = None
) -> dict[str, float]:
    """COCO figures of rows x1 y1 x2 y2 score class, and of masks, by file name; a missing photograph is an error."""
    detections = [np.array(rows[s.path.name], np.float32).reshape(-1, 6) for s in dataset]
    truths = [truth_of(s) for s in dataset]
    metrics = evaluate(truths, detections, dataset.names)
    by_class = {f"{c.name} {key}": getattr(c, key) for c in metrics.per_class for key in ("ap50", "ap50_95")}
    found = {"ap": metrics.map50_95, "ap50": metrics.map50, **by_class}
    if masks is None:
        return found
    true = [true_masks(s, dataset.image_size(i)).rles for i, s in enumerate(dataset)]
    pairs = MaskPairs(true, [masks[s.path.name] for s in dataset])
    of_masks = evaluate(truths, detections, dataset.names, pairs)
    return {**found, "mask_ap": of_masks.map50_95, "mask_ap50": of_masks.map50}


def machine(job: Job) -> str:
    """In words: processor and threads, or GPU."""
    if job.device != "cpu":
        import torch

        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(named or [platform.processor()])[0]}, {job.threads} threads of {os.cpu_count()} cores"


def yolo_copy(data: Path, folder: Path) -> Path:
    """The data.yaml of a copy in YOLO form, which is what the peers read."""
    target = folder / "data"
    if not (target / "data.yaml").exists():
        convert_dataset(data, target, "yolo")
    return target / "data.yaml"


def _train(job: Job, place: Path, folder: Path, dataset: Dataset, peer_python: Path) -> None:
    data = job.data.resolve() if job.is_ours else yolo_copy(job.data, folder).resolve()
    told = {**dataclasses.asdict(job), "data": str(data), "folder": str(place)}
    told["images"] = [str(sample.path) for sample in dataset]
    who, python = ("ours", sys.executable) if job.is_ours else ("ultralytics", str(peer_python))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job.threads),
        "MKL_NUM_THREADS": str(job.threads),
        # ultralytics neither writes to the home folder nor installs, downloads or reports anything
        "YOLO_CONFIG_DIR": str(folder.resolve()),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
    }
    with (place / "log.txt").open("ab") as log:
        command = [python, str(BENCHES / "alone" / "learning.py"), who, json.dumps(told)]
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise SystemExit(f"{job.name} ended with status {done.returncode}; its end is in {place / 'log.txt'}")


def _epochs(path: Path) -> list[dict[str, float]]:
    """One row per epoch: of one that was repeated after an interruption, the first."""
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["epoch"], row)
    return [rows[number] for number in sorted(rows)]
