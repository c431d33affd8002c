"""`mamba-yolo predict`. Test: tests/cli/test_predict.py."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome
from mamba_yolo.config import PACKAGED_MODEL
from mamba_yolo.engine.checkpoint import load_model
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.predict import predict, save_results
from mamba_yolo.engine.runs import new_run_folder

if TYPE_CHECKING:
    from mamba_yolo.config import PredictConfig


def run(config: PredictConfig) -> Outcome:
    """Detect, write pictures, and print one line per image."""
    check_given("source", config.source)
    loaded = load_model(config.model)
    config = dataclasses.replace(config, imgsz=config.imgsz or loaded.imgsz)
    results = predict(loaded.detector.to(pick_device(config.device)), loaded.names, config.source, config)
    closing = []
    if config.save or config.save_json:
        folder = new_run_folder(config.project, config.name)
        results = save_results(results, folder, config)
        closing = [f"written to {folder}"]
    images = objects = 0
    for result in results:
        milliseconds = ", ".join(f"{name} {value:.1f}" for name, value in result.speed.items())
        sys.stdout.write(f"{result.verbose()} ({milliseconds} ms)\n")
        images, objects = images + 1, objects + len(result)
    if config.model == PACKAGED_MODEL:
        known = ", ".join(loaded.names.values())
        closing.append(f"{PACKAGED_MODEL} knows {known} alone; give model= for other objects")
    return Outcome([f"{objects} objects in {images} images", *closing])
