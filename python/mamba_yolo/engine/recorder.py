"""The run folder: args.yaml, results.csv (columns YOLO users know) and metrics.jsonl, one row per epoch.

A row is on disk before the checkpoint of its epoch, and a resumed run drops rows past its checkpoint: a kill at any
moment leaves neither gaps nor doubles. Test: tests/engine/test_recorder.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mamba_yolo.config import to_dict
from mamba_yolo.engine.metrics import COLUMNS
from mamba_yolo.engine.safefile import write_text
from mamba_yolo.engine.tally import LOSS_NAMES
from mamba_yolo.errors import MissingFileError, SaveError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mamba_yolo.config import Task, TrainConfig


def columns_of(task: Task) -> tuple[str, ...]:
    """Columns of results.csv for a kind of network: (B) of boxes, (M) of masks."""
    losses = [f"{name}_loss" for name in LOSS_NAMES[task]]
    kinds = ("B", "M") if task == "segment" else ("B",)
    figures = [f"metrics/{name}({kind})" for kind in kinds for name in COLUMNS.values()]
    train, val = ([f"{split}/{name}" for name in losses] for split in ("train", "val"))
    return ("epoch", "time", *train, *figures, *val, "lr/pg0", "lr/pg1", "lr/pg2")


def last_checkpoint(project: str | Path, name: str) -> Path:
    """The newest weights/last.safetensors among project/name, name2 and so on.

    Raises:
        MissingFileError: there is none.
    """
    folders = [f for f in Path(project).glob(f"{name}*") if re.fullmatch(re.escape(name) + r"\d*", f.name)]
    files = [f / "weights" / "last.safetensors" for f in folders]
    found = [f for f in files if f.is_file()]
    if not found:
        raise MissingFileError(
            f"nothing to resume: no {Path(project) / name}*/weights/last.safetensors; "
            "give it with --model, or start without --resume"
        )
    return max(found, key=lambda f: f.stat().st_mtime)


class Recorder:
    """Writes the files of a run.

    Args:
        folder: the run folder.
        config: written to args.yaml.
        epoch: finished epochs of the checkpoint that is resumed; later rows are dropped.
        task: what the network finds.
    """

    def __init__(self, folder: Path, config: TrainConfig, epoch: int = 0, task: Task = "detect") -> None:
        self.columns = columns_of(task)
        try:
            (folder / "weights").mkdir(exist_ok=True)
        except OSError as error:
            raise SaveError(f"cannot write {folder}: {error}; make it writable, or choose another --project") from error
        self.csv_path = folder / "results.csv"
        self.jsonl_path = folder / "metrics.jsonl"
        write_text(folder / "args.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
        write_text(self.csv_path, _csv_line(self.columns) + "".join(_rows_up_to(self.csv_path, epoch, _epoch_of_csv)))
        write_text(self.jsonl_path, "".join(_rows_up_to(self.jsonl_path, epoch, _epoch_of_json)))

    def write(self, row: Mapping[str, float], details: dict[str, Any] | None) -> None:
        """Append the row of an epoch to both files; details go to metrics.jsonl only."""
        known = [_short(row[c]) if c in row else "" for c in self.columns]
        _append(self.csv_path, _csv_line(known))
        _append(self.jsonl_path, json.dumps({**row, "validation": details}, allow_nan=False) + "\n")


def read_rows(csv_path: Path) -> list[dict[str, float]]:
    """Rows of a results.csv as numbers; empty cells are left out."""
    with csv_path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _rows_up_to(path: Path, epoch: int, epoch_of: Any) -> list[str]:
    if epoch == 0 or not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n") and 0 < epoch_of(line) <= epoch]


def _epoch_of_csv(line: str) -> int:
    first = line.split(",", 1)[0]
    return int(first) if first.isdecimal() else 0


def _epoch_of_json(line: str) -> int:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return 0


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SaveError(f"cannot write {path}: {error}; free space and go on with --resume") from error


def _csv_line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _short(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
