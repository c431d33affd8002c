"""The pictures that data benches read: coco128, or generated ones of the same size and bytes per pixel.

Every file lies there under eight names, as YOLO: a set no larger than the 8 batches that a peer keeps for its mosaics
would be decoded once and flatter it. Generated ones: soft colours and grain, saved as JPEG without subsampling at 0.6
bytes per pixel as COCO's, for Huffman codes are most of the work; four labels each.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

COCO = Path(__file__).resolve().parents[2] / "shared/data/coco128"
GENERATED, COPIES, CLASSES = 128, 8, 80
GRAIN, QUALITY = 19, 90  # 0.6 bytes per pixel


def originals(root: Path) -> list[Path]:
    """128 JPEG files; generated ones go below `root`."""
    if COCO.exists():
        return sorted((COCO / "images/train2017").glob("*.jpg"))
    root.mkdir(exist_ok=True)
    for k in range(GENERATED):
        (root / f"{k:03}.jpg").write_bytes(generated(np.random.default_rng(k)))
    return sorted(root.glob("*.jpg"))


def generated(rng: np.random.Generator) -> bytes:
    """A JPEG of 640 x 480 or 480 x 640."""
    size = (640, 480) if rng.random() < 0.7 else (480, 640)
    soft = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, GRAIN, (size[1], size[0], 1))
    encoded = io.BytesIO()
    pixels = (np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    return encoded.getvalue()


def copies(root: Path, number: int = COPIES) -> Path:
    """The data file of a YOLO set below `root`, every picture under so many names."""
    root.mkdir()
    files = originals(root / "originals")
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    for file in files:
        labels = COCO / "labels/train2017" / f"{file.stem}.txt"
        rows = labels.read_text() if labels.exists() else "" if COCO.exists() else some_rows(file.stem)
        for k in range(number):
            shutil.copyfile(file, root / "images/train" / f"{k}_{file.name}")
            (root / "labels/train" / f"{k}_{file.stem}.txt").write_text(rows)
    names = "\n".join(f"  {i}: c{i}" for i in range(CLASSES))
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/train\nnames:\n{names}\n")
    return root / "data.yaml"


def some_rows(name: str) -> str:
    """Four boxes a picture."""
    rng = np.random.default_rng(int(name))
    rows = np.column_stack([rng.uniform(0.3, 0.7, (4, 2)), rng.uniform(0.05, 0.5, (4, 2))])
    return "".join(f"{rng.integers(CLASSES)} {' '.join(f'{v:.6f}' for v in row)}\n" for row in rows)
