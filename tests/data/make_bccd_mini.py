"""How python/mamba_yolo/assets/bccd_mini was made from BCCD: python tests/data/make_bccd_mini.py BCCD_FOLDER TARGET.

BCCD marks clumps only in part. Of each official split this takes the photographs whose boxes cover most of what is
darker than the background (Otsu's threshold), shrinks them to 320x240 and writes YOLO labels.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"train": 44, "val": 16}
NAMES = ("RBC", "WBC", "Platelets")
SIZE = (320, 240)
QUALITY = 88
MIN_BOXES = 7
MIN_SIDE = 2  # a point is no box


def read(bccd, stem):
    image = Image.open(bccd / "JPEGImages" / f"{stem}.jpg").convert("RGB")
    boxes = []
    for thing in ET.parse(bccd / "Annotations" / f"{stem}.xml").getroot().iter("object"):
        x1, y1, x2, y2 = (float(thing.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax"))
        if min(x2 - x1, y2 - y1) >= MIN_SIDE:
            boxes.append((NAMES.index(thing.find("name").text), x1, y1, min(x2, image.width), min(y2, image.height)))
    return image, boxes


def covered(image, boxes):
    """Which part of the cells' pixels lies inside boxes."""
    green = np.asarray(image)[..., 1]
    counts = np.bincount(green.ravel(), minlength=256)
    below, levels = np.cumsum(counts), np.arange(256)
    sums = np.cumsum(counts * levels)
    spread = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * (below[-1] - below), 1)
    cells = green <= int(spread.argmax())
    inside = np.zeros_like(cells)
    for _, x1, y1, x2, y2 in boxes:
        inside[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = True
    return (cells & inside).sum() / max(cells.sum(), 1)


def main(bccd, target):
    for split, count in COUNTS.items():
        rated = []
        for stem in (bccd / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            image, boxes = read(bccd, stem)
            if len(boxes) >= MIN_BOXES and any(c == 0 for c, *_ in boxes):
                rated.append((covered(image, boxes), stem))
        for stem in sorted(stem for _, stem in sorted(rated, reverse=True)[:count]):
            write(*read(bccd, stem), target, split, stem.replace("BloodImage_", "blood_"))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    (target / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")


def write(image, boxes, target, split, stem):
    for folder in ("images", "labels"):
        (target / folder / split).mkdir(parents=True, exist_ok=True)
    picture = image.resize(SIZE, Image.Resampling.LANCZOS)
    picture.save(target / "images" / split / f"{stem}.jpg", quality=QUALITY, optimize=True)
    w, h = image.size
    lines = [
        f"{c} {(x1 + x2) / 2 / w:.5f} {(y1 + y2) / 2 / h:.5f} {(x2 - x1) / w:.5f} {(y2 - y1) / h:.5f}\n"
        for c, x1, y1, x2, y2 in boxes
    ]
    (target / "labels" / split / f"{stem}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
