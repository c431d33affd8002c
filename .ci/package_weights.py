"""Puts trained weights of n on BCCD into the package: `.ci/package_weights.py RUN/weights/best.safetensors`.

Halves them (float16), measures the halved file on the test split, and writes assets/n-bccd.safetensors of the package
and docs/model-card.md, whose figures and facts come from the file and from args.yaml. `make weights FROM=...` runs it.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mamba_yolo.api import MambaYOLO
from mamba_yolo.config import PACKAGED_MODEL
from mamba_yolo.engine.checkpoint import Checkpoint, load, save
from mamba_yolo.engine.packaged import BCCD_WEIGHTS

if TYPE_CHECKING:
    from mamba_yolo.engine.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "docs" / "model-card.md"
DATA = ROOT.parent / "shared" / "data" / "bccd"
LARGEST_BYTES = 4_000_000
LARGEST_LOSS = 0.002  # of AP, by halving
NAMED_OPTIONS = ("epochs", "batch", "imgsz", "seed", "optimizer", "initialization")


def main() -> None:
    """Halve, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="BCCD, Pascal VOC")
    wanted = parser.parse_args()
    options = yaml.safe_load((wanted.weights.parent.parent / "args.yaml").read_text(encoding="utf-8"))
    full = load(wanted.weights)
    before = MambaYOLO(wanted.weights).val(data=str(wanted.data), split="test")
    halved = dataclasses.replace(
        full,
        weights={k: v.half() if v.is_floating_point() else v for k, v in full.weights.items()},
        training_set="BCCD, its 205 training photographs (github.com/Shenggan/BCCD_Dataset, MIT)",
        license="Apache-2.0",
        resume=None,
    )
    unfinished = wanted.weights.with_name(BCCD_WEIGHTS.name)
    save(unfinished, halved)
    after = MambaYOLO(unfinished).val(data=str(wanted.data), split="test")
    if abs(after.map50_95 - before.map50_95) > LARGEST_LOSS:
        raise SystemExit(f"float16 gives AP {after.map50_95:.4f}, float32 {before.map50_95:.4f}: not packaged")
    text = card(halved, after, options)
    save(BCCD_WEIGHTS, dataclasses.replace(halved, figures=after.figures(), card=text))
    CARD.write_text(text, encoding="utf-8")
    size = BCCD_WEIGHTS.stat().st_size
    if size > LARGEST_BYTES:
        raise SystemExit(f"{BCCD_WEIGHTS}: {size} bytes, at most {LARGEST_BYTES} are allowed")
    print(f"{BCCD_WEIGHTS}: {size / 1e6:.2f} MB, test AP50 {after.map50:.4f}, AP {after.map50_95:.4f}")


def card(checkpoint: Checkpoint, metrics: Metrics, options: dict[str, Any]) -> str:
    """The model card in Markdown."""
    parameters = sum(v.numel() for v in checkpoint.weights.values() if v.is_floating_point())
    named = NAMED_OPTIONS if options["optimizer"] == "auto" else (*NAMED_OPTIONS, "lr0")
    chosen = ", ".join(f"{name} {options[name]}" for name in named)
    rows = [("all", metrics.instances, metrics.precision, metrics.recall, metrics.map50, metrics.map50_95)]
    rows += [(c.name, c.instances, c.precision, c.recall, c.ap50, c.ap50_95) for c in metrics.per_class]
    table = [f"| {n} | {i} | {p:.3f} | {r:.3f} | {a:.3f} | {b:.3f} |" for n, i, p, r, a, b in rows]
    return "\n".join(
        [
            f"# {PACKAGED_MODEL}",
            "",
            "Finds red cells (RBC), white cells (WBC) and platelets in photographs of stained blood smears. It is in",
            "the package so that `mamba-yolo predict` shows something real at once; it is no medical device.",
            "",
            f"- Network: mamba-yolo-n, {checkpoint.arch.num_classes} classes, {parameters:,} numbers in float16.",
            f"- Training: from scratch on {checkpoint.training_set};",
            f"  {chosen}.",
            "- License of the weights: Apache-2.0; of the photographs, which are not in the file: MIT.",
            f"- Made by mamba-yolo {checkpoint.version}, `mamba-yolo train`, then `make weights FROM=...`.",
            "",
            f"Measured from the packaged file on the official test split, {metrics.images} photographs, at "
            f"{checkpoint.imgsz} px; precision",
            f"and recall at confidence {metrics.confidence:.2f}, where F1 is best. COCO figures:",
            "",
            "| class | objects | precision | recall | AP50 | AP50-95 |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            "Repeat with `mamba-yolo val data=BCCD split=test model=mamba-yolo-n-bccd`.",
            "",
            "Limits: photographs of one kind (640 x 480 pixels, one stain, one magnification: red cells about 100 px",
            "wide). In the data clumps of red cells are marked in part, and some photographs have no red cell marked,",
            "so the figures of RBC are lower than what the eye sees. Other magnifications need training of one's own.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
