"""Training pictures from files on one thread: plain, mosaic, mixup, rotated, beside albumentations where installed.

Run: `pytest benches/test_augment.py --benchmark-only -s`. Images per second of processor time, so that other work on
the machine does not count; every file is under 8 names, and no tile is ready before. The peer decodes with OpenCV, pads
and maps with 114, and transforms the boxes too; it has no mosaic that finds its own partners.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

from mamba_yolo.data import AugmentConfig, Loader, open_dataset

COCO = Path(__file__).resolve().parents[2] / "shared/data/coco128"
COPIES, ROUNDS, SIDE = 8, 3, 640
PLAIN = AugmentConfig(mosaic=0.0)
MOSAIC = AugmentConfig()
ROWS = {
    "without mosaic": PLAIN,
    "mosaic": MOSAIC,
    "mosaic, mixup 1.0": dataclasses.replace(MOSAIC, mixup=1.0),
    "mosaic, degrees 10, shear 2": dataclasses.replace(MOSAIC, degrees=10.0, shear=2.0),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """coco128 under so many names, as YOLO."""
    if not COCO.exists():
        pytest.skip("needs ../shared/data/coco128")
    root = tmp_path_factory.mktemp("copies")
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (root / kind / "train").mkdir(parents=True)
        for file in sorted((COCO / kind / "train2017").glob(f"*{suffix}")):
            for k in range(COPIES):
                (root / kind / "train" / f"{k}_{file.name}").symlink_to(file)
    names = "\n".join(f"  {i}: c{i}" for i in range(80))
    (root / "data.yaml").write_text(f"train: images/train\nnames:\n{names}\n")
    return open_dataset(root / "data.yaml")


def albumentations_pass(dataset):
    """One pass of the peer over the files, without mosaic."""
    import albumentations as peer
    import cv2

    cv2.setNumThreads(1)
    steps = [
        peer.LongestMaxSize(SIDE, interpolation=cv2.INTER_LINEAR),
        peer.PadIfNeeded(SIDE, SIDE, border_mode=cv2.BORDER_CONSTANT, fill=114),
        peer.Affine(scale=(0.5, 1.5), translate_percent=(-0.1, 0.1), fill=114, p=1),
        peer.HueSaturationValue(hue_shift_limit=3, sat_shift_limit=90, val_shift_limit=50, p=1),
        peer.HorizontalFlip(p=0.5),
    ]
    labels = peer.BboxParams(format="pascal_voc", label_fields=["classes"], min_area=4, min_visibility=0.1, clip=True)
    pipeline = peer.Compose(steps, bbox_params=labels)

    def run():
        for sample in dataset:
            image = cv2.cvtColor(cv2.imread(str(sample.path)), cv2.COLOR_BGR2RGB)
            made = pipeline(image=image, bboxes=sample.boxes_xyxy, classes=sample.classes)
            planes = np.ascontiguousarray(made["image"].transpose(2, 0, 1))
            assert planes.shape == (3, SIDE, SIDE)

    return run


def processor_seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("what", ROWS)
def test_training_pictures(benchmark, dataset, what):
    def ours():
        loader = Loader(dataset, SIDE, 16, threads=1, augment=ROWS[what])
        assert sum(len(batch.images) for batch in loader.epoch(0)) == len(dataset)

    calls = {"ours": ours}
    if ROWS[what] is PLAIN and importlib.util.find_spec("albumentations"):
        calls["albumentations"] = albumentations_pass(dataset)
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(processor_seconds(call))
    speed = {name: len(dataset) / min(t) for name, t in times.items()}
    beside = "".join(f"; {name} {v:.0f} ({speed['ours'] / v:.2f}x)" for name, v in speed.items() if name != "ours")
    print(f"\n{what}: {speed['ours']:.0f} img/s{beside}")
    benchmark.extra_info.update(speed)
    benchmark.pedantic(ours, rounds=1)
