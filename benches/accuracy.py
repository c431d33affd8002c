"""Accuracy from scratch beside YOLOv8n and YOLO11n: the same photographs, epochs, size, batch and seeds.

Run: `make accuracy`, or a part of it: `python benches/accuracy.py --only n,yolov8n --seeds 0 --epochs 100`; masks:
`make accuracy-masks`. Interrupt it as you like: finished runs are kept below runs/accuracy, the one at hand goes on
from its last epoch. All train with the defaults of their own program, or with options behind the name
(`yolov8n:nbs=8`), and the weights of the best validation epoch predict a split (scores over 0.001, NMS at 0.7, 300
objects), which one evaluator measures. The table goes into docs/results.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import yaml

from learn import ROOT, Job, Learned, learned
from page import put_table

PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
DATA = ROOT.parent / "shared" / "data" / "bccd"
MODELS = ("n", "yolov8n", "yolo11n")
SEEDS = (0, 1)


def main() -> None:
    """Every run that was asked for, then the page."""
    wanted = arguments()
    jobs = [job(name, seed, wanted) for seed in wanted.seeds for name in wanted.only]
    if not all(one.is_ours for one in jobs) and not wanted.peer_python.exists():
        sys.exit(f"{wanted.peer_python}: no such interpreter; run `make bench-peers`, or name ours alone: --only n")
    done: list[Learned] = []
    for one in jobs:
        done.append(learned(one, wanted.folder, wanted.peer_python))
        print(f"       AP50 {done[-1].figures['ap50']:.4f}  AP {done[-1].figures['ap']:.4f}  {one.name}", flush=True)
        put_table(wanted.page, title(wanted), table(done, wanted))


def job(name: str, seed: int, wanted: argparse.Namespace) -> Job:
    """A training by its name, which may have options of its own program: `yolov8n:nbs=8`."""
    model, *pairs = name.split(":")
    options = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    size = wanted.imgsz, wanted.epochs, wanted.batch
    return Job(model, wanted.data, *size, seed, wanted.split, wanted.device, wanted.threads, options)


def label(one: Job) -> str:
    """The model, and the options that differ from the defaults of its program."""
    return ", ".join([one.model, *(f"{key}={value}" for key, value in one.options.items())])


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=MODELS,
        help="ours: n t b l, or n-seg …; options behind a colon: yolov8n:nbs=8",
    )
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=SEEDS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--split", default="test", help="what the best weights are measured on")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "accuracy", help="where runs are kept")
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON, help="an interpreter that has ultralytics")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    return parser.parse_args()


def title(wanted: argparse.Namespace) -> str:
    """What the rows of a table share."""
    return f"{wanted.data.name}, {wanted.imgsz} px, {wanted.epochs} epochs, batch {wanted.batch}"


def table(done: list[Learned], wanted: argparse.Namespace) -> str:
    """One row per model: means over seeds, and what every seed gave."""
    names = [key.removesuffix(" ap50") for key in done[0].figures if key.endswith(" ap50")]
    models = list(dict.fromkeys(label(one.job) for one in done))
    masks = ["mask AP50", "mask AP50-95"] if "mask_ap" in done[0].figures else []
    boxes = ["AP50", "AP50-95", *(f"{n} AP50 / AP" for n in names)]
    head = ["model", "parameters", *masks, *boxes, "images/s", "time", "seeds"]
    rows = [_row(model, [one for one in done if label(one.job) == model], names) for model in models]
    lines = [" | ".join(cells) for cells in (head, ["---"] * len(head), *rows)]
    versions = {f"{name} {number}" for one in done for name, number in one.versions.items()}
    shown = ",".join(wanted.only), ",".join(map(str, wanted.seeds))
    return "\n".join(
        [
            *(f"| {line} |" for line in lines),
            "",
            f"`python benches/accuracy.py --only {shown[0]} --seeds {shown[1]} --epochs {wanted.epochs} --imgsz "
            f"{wanted.imgsz} --batch {wanted.batch} --threads {wanted.threads}{_other(wanted)}`; "
            f"{', '.join(sorted(versions))}; {'; '.join(sorted({one.machine for one in done}))}. Figures are of the "
            f"{wanted.split} split, weights of the best validation epoch, means over the seeds; single seeds in "
            "brackets. Time is of one run, with validation.",
        ]
    )


def _other(wanted: argparse.Namespace) -> str:
    """Options of another data set."""
    return "" if wanted.split == "test" else f" --data {wanted.data.name} --split {wanted.split}"


def _row(model: str, runs: list[Learned], names: list[str]) -> list[str]:
    def mean(key: str) -> float:
        return statistics.mean(run.figures[key] for run in runs)

    def each(key: str) -> str:
        return f"{mean(key):.3f} ({', '.join(f'{run.figures[key]:.3f}' for run in runs)})"

    return [
        f"**{model}**" if runs[0].job.is_ours else model,
        f"{runs[0].parameters:,}",
        *(each(key) for key in ("mask_ap50", "mask_ap") if key in runs[0].figures),
        each("ap50"),
        each("ap"),
        *(f"{mean(f'{name} ap50'):.3f} / {mean(f'{name} ap50_95'):.3f}" for name in names),
        f"{statistics.mean(run.images_per_s for run in runs):.1f}",
        f"{statistics.mean(run.hours for run in runs) * 60:.0f} min",
        ", ".join(str(run.job.seed) for run in runs),
    ]


if __name__ == "__main__":
    main()
