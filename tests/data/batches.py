"""What the loader's tests share: small sets, a loader over them, and batches laid out per picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mamba_yolo.data import Loader, open_dataset


def flatten(batches):
    """Per picture: bytes, boxes, classes, sample, masks."""
    rows = []
    for b in batches:
        for k in range(len(b.images)):
            mine = b.batch_index == k
            parts = [b.images[k], b.boxes_cxcywh_norm[mine], b.classes[mine], b.sample_index[k], b.letterbox[k]]
            parts += [] if b.masks is None else [b.masks[mine]]
            rows.append(b"".join(p.numpy().tobytes() for p in parts))
    return rows


def loader(path, **options):
    """A loader of the training split with small settings."""
    settings = {"imgsz": 64, "batch_size": 2, "threads": 1, **options}
    return Loader(open_dataset(path), **settings)


def smooth(rng, height, width):
    """A picture without single odd pixels, so that a rounding cannot hide in noise."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / rng.uniform(2, 9) + y / rng.uniform(2, 9) + rng.uniform(0, 6)) for _ in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def make_set(folder, *, segments, sizes=((64, 48), (40, 64), (64, 64), (33, 64), (64, 21))):
    """One to three boxes or ellipses on each smooth picture, as YOLO; returns its data.yaml."""
    rng = np.random.default_rng(7)
    (folder / "images/train").mkdir(parents=True)
    (folder / "labels/train").mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(smooth(rng, height, width)).save(folder / f"images/train/{i}.png")
        rows = []
        for k in range(i % 3 + 1):
            cx, cy, w, h = rng.uniform(0.15, 0.85), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.35)
            turns = np.linspace(0, 2 * np.pi, 9)[:-1]
            points = np.stack([cx + w / 2 * np.cos(turns), cy + h / 2 * np.sin(turns)], 1).clip(0, 1)
            numbers = points.ravel() if segments else (cx, cy, min(w, 2 * cx, 2 - 2 * cx), min(h, 2 * cy, 2 - 2 * cy))
            rows.append(" ".join([str(k % 2), *(f"{v:.6f}" for v in numbers)]))
        (folder / f"labels/train/{i}.txt").write_text("\n".join(rows))
    (folder / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    return folder / "data.yaml"
