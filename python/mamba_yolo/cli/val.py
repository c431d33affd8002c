"""`mamba-yolo val`. Test: tests/cli/test_demo.py."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mamba_yolo.api import MambaYOLO
from mamba_yolo.cli.console import Outcome, table

if TYPE_CHECKING:
    from rich.table import Table

    from mamba_yolo.config import ValConfig
    from mamba_yolo.engine.metrics import Metrics


def run(config: ValConfig) -> Outcome:
    """Measure a model on a split."""
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in ("model", "json")}
    model = MambaYOLO(config.model, device=config.device)
    metrics = model.val(**options)
    written = [f"report: {model.run_dir / 'report.html'}"] if model.run_dir else []
    data = {"model": config.model, "data": config.data, "split": config.split, **metrics.to_dict()}
    return Outcome([metrics_table(metrics), *written], data)


def metrics_table(metrics: Metrics) -> Table:
    """Figures of all classes and of each."""
    columns = ["class", "images", "instances", "P", "R", "F1", "AP50", "AP50-95"]
    total = ("all", metrics.images, metrics.instances, metrics.precision, metrics.recall, metrics.f1)
    rows = [(*map(_figure, total), _figure(metrics.map50), _figure(metrics.map50_95))]
    for c in metrics.per_class:
        figures = (c.name, c.images, c.instances, c.precision, c.recall, c.f1, c.ap50, c.ap50_95)
        rows.append(tuple(map(_figure, figures)))
    if metrics.seg:
        seg = metrics.seg
        columns += [f"mask {name}" for name in ("P", "R", "AP50", "AP50-95")]
        of_masks = [(seg.precision, seg.recall, seg.map50, seg.map50_95)]
        of_masks += [(c.precision, c.recall, c.ap50, c.ap50_95) for c in seg.per_class]
        rows = [(*row, *map(_figure, more)) for row, more in zip(rows, of_masks, strict=True)]
    return table(f"{metrics.images} images, P and R at confidence {metrics.confidence:.3f}", columns, rows)


def _figure(value: object) -> str:
    """A figure with three digits; a dash without ground truth."""
    if isinstance(value, float):
        return f"{value:.3f}" if value >= 0 else "-"
    return str(value)
