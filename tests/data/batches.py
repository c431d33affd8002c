"""What the loader's tests share: a loader over a small set, and batches laid out per picture."""

from __future__ import annotations

from mamba_yolo.data import Loader, open_dataset


def flatten(batches):
    """Per picture: bytes, boxes, classes, sample."""
    rows = []
    for b in batches:
        for k in range(len(b.images)):
            mine = b.batch_index == k
            parts = (b.images[k], b.boxes_cxcywh_norm[mine], b.classes[mine], b.sample_index[k], b.letterbox[k])
            rows.append(b"".join(p.numpy().tobytes() for p in parts))
    return rows


def loader(path, **options):
    """A loader of the training split with small settings."""
    settings = {"imgsz": 64, "batch_size": 2, "threads": 1, **options}
    return Loader(open_dataset(path), **settings)
