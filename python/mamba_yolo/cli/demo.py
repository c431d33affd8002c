"""`mamba-yolo demo`: a real detector on real photographs in about two minutes, without a network.

Shows what the packaged weights find on packaged blood-cell photographs (assets/bccd_mini) which are not their training
set, then trains the smallest preset on the others, validates, predicts, draws.
Test: tests/cli/test_demo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mamba_yolo
from mamba_yolo.api import MambaYOLO
from mamba_yolo.cli.console import Outcome
from mamba_yolo.cli.val import metrics_tables
from mamba_yolo.config import PACKAGED_MODEL
from mamba_yolo.data import open_dataset
from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.visual.draw import draw_detections, grid
from mamba_yolo.visual.write import write_picture

if TYPE_CHECKING:
    import numpy.typing as npt

    from mamba_yolo.cli.commands import DemoConfig
    from mamba_yolo.data import Dataset
    from mamba_yolo.results import Results

DATA = Path(mamba_yolo.__file__).parent / "assets" / "bccd_mini" / "data.yaml"
PRESET = "mamba-yolo-n"
# What two CPU cores do in about two minutes. Small batches, so many steps: there are only 44 photographs.
TRAINING: dict[str, Any] = {
    "epochs": 24,
    "imgsz": 256,
    "batch": 4,
    "warmup_epochs": 1.0,
    "mosaic": 0.0,
    "val_period": 5,
}
PACKAGED_CONF = 0.4
CELL = (480, 640)  # height and width of a picture on the sheet


def run(config: DemoConfig) -> Outcome:
    """Show the packaged weights; train, validate, predict, and write a sheet with labels beside predictions."""
    dataset = open_dataset(DATA, split="val")
    _show_packaged(config, dataset)
    model = MambaYOLO(PRESET, num_classes=len(dataset.names), seed=config.seed)
    metrics = model.train(data=str(DATA), project=config.project, name=config.name, seed=config.seed, **TRAINING)
    folder = model.run_dir
    assert folder is not None
    conf = round(metrics.confidence, 2)  # where precision and recall balance best
    results = model.predict([dataset[i].path for i in range(len(dataset))], conf=conf, imgsz=TRAINING["imgsz"])
    for result in results:
        result.save(folder / "predictions" / Path(result.path).name)
    sheet = write_picture(_sheet(dataset, list(results), conf), folder / "labels_and_predictions.jpg")
    best = folder / "weights" / "best.safetensors"
    return Outcome(
        [
            *metrics_tables(metrics),
            "",
            f"look at     {sheet}  (labels left, predictions right)",
            f"pictures    {folder / 'predictions'}",
            f"weights     {best}",
            f"report      {folder / 'report.html'}  (open it in a browser)",
            "",
            "what next",
            f"  mamba-yolo predict {DATA.parent / 'images' / 'val'}        the packaged weights",
            f"  mamba-yolo predict model={best} source={DATA.parent / 'images' / 'val'} conf={conf}",
            "  mamba-yolo check data=YOUR_DATA        YOLO, COCO or VOC: found out by looking",
            "  mamba-yolo train data=YOUR_DATA model=mamba-yolo-t epochs=100",
        ]
    )


def _show_packaged(config: DemoConfig, dataset: Dataset) -> None:
    """Predict with the weights of the package at once, and say where to look while the training runs."""
    results = MambaYOLO(PACKAGED_MODEL).predict([sample.path for sample in dataset], conf=PACKAGED_CONF)
    folder = new_run_folder(config.project, f"{config.name}-packaged")
    sheet = write_picture(_sheet(dataset, list(results), PACKAGED_CONF), folder / "labels_and_predictions.jpg")
    sys.stdout.write(
        f"{PACKAGED_MODEL}, trained on other photographs of the same kind, found {sum(map(len, results))} cells:\n"
        f"look at     {sheet}  (labels left, predictions right)\n"
        "now the same from nothing, on 44 photographs, in about two minutes\n"
    )
    sys.stdout.flush()


def _sheet(dataset: Dataset, results: list[Results], conf: float) -> npt.NDArray[np.uint8]:
    """Labels and predictions of every picture, side by side, a class in one colour on both."""
    number_of = {name: number for number, name in results[0].names.items()}  # models number classes in their own way
    pictures, titles = [], []
    for sample, result in zip((dataset[i] for i in range(len(dataset))), results, strict=True):
        assert result.orig_image is not None
        classes = np.array([number_of[dataset.names[c]] for c in sample.classes.tolist()], np.int64)
        pictures += [
            draw_detections(result.orig_image, sample.boxes_xyxy, classes, None, result.names),
            result.plot(),
        ]
        titles += [f"{sample.path.name}: labels", f"predictions over {conf}"]
    return grid(pictures, titles, columns=4, cell=CELL)
