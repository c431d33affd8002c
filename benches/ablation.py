"""What helps n on a small data set: one option changed at a time, measured on the validation split.

Run: `python benches/ablation.py`, or a part: `--only baseline,batch_8 --seeds 0,1`. Runs are kept below runs/accuracy,
as those of accuracy.py, and interrupted ones go on. A difference below twice the spread of the baseline is noise.
The table goes into docs/results.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from accuracy import DATA, PEER_PYTHON
from learn import ROOT, Job, Learned, learned
from page import put_table

BASELINE = "baseline"
CHANGES: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "lr_0.005": {"lr0": 0.005},
    "lr_0.02": {"lr0": 0.02},
    "adamw": {"optimizer": "adamw", "lr0": 0.0014, "momentum": 0.9, "nbs": 16},
    "sgd": {"optimizer": "sgd", "nbs": 16},
    "sgd_lr_0.04": {"optimizer": "sgd", "lr0": 0.04, "nbs": 16},
    "batch_8": {"batch": 8},
    "batch_4": {"batch": 4},
    "initialization_mamba": {"initialization": "mamba"},
    "cosine": {"cos_lr": True},
    "warmup_1": {"warmup_epochs": 1.0},
    "ema_0.99": {"ema": 0.99},
    "close_mosaic_5": {"close_mosaic": 5},
    "no_mosaic": {"mosaic": 0.0},
    "mixup_0.15": {"mixup": 0.15},
}


def main() -> None:
    """Every change that was asked for, then the page."""
    wanted = arguments()
    unknown = set(wanted.only) - set(CHANGES)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CHANGES)}")
    done: dict[str, list[Learned]] = {}
    for seed in wanted.seeds:
        for name in wanted.only:
            run = learned(job(name, seed, wanted), wanted.folder, PEER_PYTHON)
            done.setdefault(name, []).append(run)
            print(f"       AP50 {run.figures['ap50']:.4f}  AP {run.figures['ap']:.4f}  {name}", flush=True)
            title = (
                f"One change at a time: {wanted.model}, {wanted.data.name}, {wanted.imgsz} px, {wanted.epochs} epochs"
            )
            put_table(wanted.page, title, table(done, wanted))


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=tuple(CHANGES))
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1))
    parser.add_argument("--model", default="n")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "accuracy", help="where runs are kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    return parser.parse_args()


def job(name: str, seed: int, wanted: argparse.Namespace) -> Job:
    """The baseline with one change."""
    changed = dict(CHANGES[name])
    batch = changed.pop("batch", 16)
    return Job(
        wanted.model,
        wanted.data,
        imgsz=wanted.imgsz,
        epochs=wanted.epochs,
        batch=batch,
        seed=seed,
        split="val",
        threads=wanted.threads,
        options=changed,
    )


def table(done: dict[str, list[Learned]], wanted: argparse.Namespace) -> str:
    """One row per change, with its distance to the baseline where that has been run."""
    base = done.get(BASELINE)
    lines = ["| change | AP50 | AP50-95 | of seeds | against the baseline |", "|---|---|---|---|---|"]
    for name, runs in done.items():
        ap50, ap = (statistics.mean(run.figures[key] for run in runs) for key in ("ap50", "ap"))
        seeds = ", ".join(f"{run.figures['ap']:.3f}" for run in runs)
        apart = f"{ap - statistics.mean(run.figures['ap'] for run in base):+.3f}" if base and name != BASELINE else ""
        what = ", ".join(f"{key}={value}" for key, value in CHANGES[name].items()) or "defaults: Muon, batch 16"
        lines.append(f"| {what} | {ap50:.3f} | {ap:.3f} | {seeds} | {apart} |")
    shown = f"--seeds {','.join(map(str, wanted.seeds))} --epochs {wanted.epochs} --imgsz {wanted.imgsz}"
    data = "" if wanted.data == DATA else f"--data {wanted.data.name} "
    command = f"`python benches/ablation.py {data}--only {','.join(done)} {shown}`"
    return "\n".join([*lines, "", f"{command}; figures of the validation split, weights of the best epoch."])


if __name__ == "__main__":
    main()
