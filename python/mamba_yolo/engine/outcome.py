"""The outcome of a training run, and its way from one process to another as JSON, which keeps every float64.

Test: tests/engine/test_launch.py.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mamba_yolo.engine.matches import Curves, Truth
from mamba_yolo.engine.metrics import ClassFigures, Metrics
from mamba_yolo.engine.verdicts import Verdict

if TYPE_CHECKING:
    import numpy.typing as npt


class TrainResult(NamedTuple):
    """Outcome of a run.

    Attributes:
        run_dir: folder of the run.
        best: weights/best.safetensors.
        best_metrics: its figures, measured again from the file.
        best_epoch: epoch it comes from, counted from 1.
        epochs: finished epochs.
    """

    run_dir: Path
    best: Path
    best_metrics: Metrics
    best_epoch: int
    epochs: int


def write_result(path: Path, result: TrainResult) -> None:
    """Write a result as JSON."""
    metrics = _plain(result.best_metrics)
    plain = {**result._asdict(), "run_dir": str(result.run_dir), "best": str(result.best), "best_metrics": metrics}
    path.write_text(json.dumps(plain, default=np.ndarray.tolist), encoding="utf-8")


def read_result(path: Path) -> TrainResult:
    """Read what `write_result` wrote."""
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    metrics = _metrics(plain.pop("best_metrics"))
    return TrainResult(Path(plain.pop("run_dir")), Path(plain.pop("best")), metrics, **plain)


def _plain(metrics: Metrics) -> dict[str, Any]:
    """Fields by name, as JSON can have them."""
    fields = {f.name: getattr(metrics, f.name) for f in dataclasses.fields(Metrics)}
    return fields | {"seg": metrics.seg and _plain(metrics.seg)}


def _metrics(metrics: dict[str, Any]) -> Metrics:
    """What `_plain` made into fields."""
    metrics["per_class"] = [ClassFigures(*row) for row in metrics["per_class"]]
    metrics["confusion"] = np.array(metrics["confusion"], np.int64)
    metrics["curves"] = Curves(*map(np.array, metrics["curves"]))
    metrics["precision50"] = np.array(metrics["precision50"])
    metrics["verdicts"] = [_verdict(*row) for row in metrics["verdicts"]]
    metrics["seg"] = metrics["seg"] and _metrics(metrics["seg"])
    return Metrics(**metrics)


def _verdict(truth: list[Any], rows: list[Any], found: list[int], missed: list[int], loss: float) -> Verdict:
    """One image's; JSON knows neither dtypes nor the shape of an empty array."""
    boxes, classes, is_crowd, areas = truth
    return Verdict(
        Truth(_boxes(boxes, 4), np.array(classes, np.int64), np.array(is_crowd, np.bool_), np.array(areas, np.float64)),
        _boxes(rows, 6),
        np.array(found, np.int64),
        np.array(missed, np.int64),
        loss,
    )


def _boxes(rows: list[Any], columns: int) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, columns)
