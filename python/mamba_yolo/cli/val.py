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
    return Outcome([*metrics_tables(metrics), *written], data)


def metrics_tables(metrics: Metrics) -> list[Table]:
    """Figures of all classes and of each: of boxes, and of masks where the model finds them."""
    if metrics.seg is None:
        return [_table(metrics, "")]
    return [_table(metrics, "boxes: "), _table(metrics.seg, "masks: ")]


def _table(metrics: Metrics, what: str) -> Table:
    columns = ("class", "images", "instances", "P", "R", "F1", "AP50", "AP50-95")
    total = ("all", metrics.images, metrics.instances, metrics.precision, metrics.recall, metrics.f1)
    rows = [(*map(_figure, total), _figure(metrics.map50), _figure(metrics.map50_95))]
    for c in metrics.per_class:
        figures = (c.name, c.images, c.instances, c.precision, c.recall, c.f1, c.ap50, c.ap50_95)
        rows.append(tuple(map(_figure, figures)))
    return table(f"{what}{metrics.images} images, P and R at confidence {metrics.confidence:.3f}", columns, rows)


def _figure(value: object) -> str:
    """A figure with three digits; a dash without ground truth."""
    if isinstance(value, float):
        return f"{value:.3f}" if value >= 0 else "-"
    return str(value)
