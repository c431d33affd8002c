"""Loads batches: `loading.py ours data.yaml '{"kind": "train", "threads": 1, "cache": "off", "augment": {...}}'`.

Or `loading.py ultralytics`, where threads are worker processes and 0 means that this thread makes the batches; it
starts no more of them than there are cores, unless with "exactly" torch's `DataLoader` takes its data set. Or
`loading.py albumentations`, which is always on this thread. Answers the questions of `QUESTIONS`.
"""

import functools
import itertools
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

import torch

from timing import seconds, serve

SIDE, BATCH = 640, 16
WARM_BATCHES = 9  # the peer's mosaics draw from the last 8
STEP_S = 0.25  # what the model would take, as long as 16 pictures need on one core at 64 a second
EPOCHS = 3


class Ours:
    """Our loader, its scan and its count of decoded pictures."""

    labels_cache = Path(os.environ["MAMBA_YOLO_CACHE"]) / "labels"

    def open(self):
        from mamba_yolo.data import AugmentConfig, Loader, open_dataset

        train, threads = OPTIONS["kind"] == "train", OPTIONS["threads"]
        augment = AugmentConfig(**OPTIONS["augment"])
        dataset = open_dataset(DATA)
        cache = OPTIONS["cache"]
        self.loader = Loader(dataset, SIDE, BATCH, train=train, threads=threads, cache=cache, augment=augment)
        if cache != "off":  # which the peer fills before it starts
            assert sum(1 for _ in self.loader.epoch(0)) == len(self.loader)

    def scan(self):
        from mamba_yolo.data import open_dataset

        return len(open_dataset(DATA))

    def images(self, number):
        return (batch.images for batch in self.loader.epoch(number))

    def decoded(self):
        return self.loader._pipeline().num_decoded()


class Ultralytics:
    """The peer's loader by its documented functions; decoded pictures are those it asks of OpenCV."""

    labels_cache = Path(sys.argv[2]).parent / "labels/train.cache"

    def __init__(self):
        sys.modules["albumentations"] = None  # where installed, it would draw from that as well
        import cv2

        self.calls = 0
        for name in ("imread", "imdecode"):
            setattr(cv2, name, self.counted(getattr(cv2, name)))
        from ultralytics.cfg import get_cfg
        from ultralytics.data.utils import check_det_dataset

        cv2.setNumThreads(torch.get_num_threads())
        cache = OPTIONS["cache"] if OPTIONS["cache"] != "off" else False
        self.settings = get_cfg(overrides={"imgsz": SIDE, "cache": cache, "workers": 0, **OPTIONS["augment"]})
        self.data = check_det_dataset(str(DATA), autodownload=False)

    def counted(self, call):
        def run(*arguments, **options):
            self.calls += 1
            return call(*arguments, **options)

        return run

    def dataset(self):
        from ultralytics.data import build_yolo_dataset

        mode = {"train": "train", "letterbox": "val"}[OPTIONS["kind"]]
        return build_yolo_dataset(self.settings, self.data["train"], BATCH, self.data, mode=mode, rect=False)

    def open(self):
        from ultralytics.data import build_dataloader

        dataset, workers, train = self.dataset(), OPTIONS["threads"], OPTIONS["kind"] == "train"
        if OPTIONS["exactly"]:
            turn = functools.partial(torch.utils.data.DataLoader, num_workers=workers, collate_fn=dataset.collate_fn)
            self.loader = turn(dataset, BATCH, shuffle=train)
        else:
            self.loader = build_dataloader(dataset, BATCH, workers=workers, shuffle=train)

    def scan(self):
        return len(self.dataset())

    def images(self, _):
        return (batch["img"] for batch in self.loader)

    def decoded(self):
        return self.calls


class Albumentations:
    """The peer's transforms over our samples: read by OpenCV, boxes changed too. It finds no mosaic's partners."""

    def open(self):
        import albumentations as peer
        import cv2

        from mamba_yolo.data import open_dataset

        cv2.setNumThreads(1)
        vary = [
            peer.Affine(scale=(0.5, 1.5), translate_percent=(-0.1, 0.1), fill=114, p=1),
            peer.HueSaturationValue(hue_shift_limit=3, sat_shift_limit=90, val_shift_limit=50, p=1),
            peer.HorizontalFlip(p=0.5),
        ]
        steps = [
            peer.LongestMaxSize(SIDE, interpolation=cv2.INTER_LINEAR),
            peer.PadIfNeeded(SIDE, SIDE, border_mode=cv2.BORDER_CONSTANT, fill=114),
            *(vary if OPTIONS["kind"] == "train" else []),
        ]
        boxes = peer.BboxParams(
            format="pascal_voc", label_fields=["classes"], min_area=4, min_visibility=0.1, clip=True
        )
        self.pipeline = peer.Compose(steps, bbox_params=boxes)
        self.samples, self.read = open_dataset(DATA), cv2.imread
        self.to_rgb = functools.partial(cv2.cvtColor, code=cv2.COLOR_BGR2RGB)

    def images(self, _):
        for sample in self.samples:
            image = self.to_rgb(self.read(str(sample.path)))
            made = self.pipeline(image=image, bboxes=sample.boxes_xyxy, classes=sample.classes)
            yield torch.from_numpy(made["image"].transpose(2, 0, 1)).contiguous()[None]

    def decoded(self):
        return 0  # nothing can keep it from decoding each of them once


def warm():
    """Load some pictures: tables, threads, the peer's buffer for mosaics."""
    return sum(len(images) for images in itertools.islice(side.images(0), WARM_BATCHES))


def epoch(number=0):
    """Wall and processor seconds of one epoch, how many pictures it had and how many were decoded for it."""
    before, started, count = side.decoded(), time.process_time(), 0

    def run():
        nonlocal count
        for images in side.images(number):
            assert tuple(images.shape[1:]) == (3, SIDE, SIDE)
            assert images.dtype == torch.uint8
            count += len(images)

    wall = seconds(run)
    processor = time.process_time() - started
    return {"wall": wall, "processor": processor, "images": count, "decoded": side.decoded() - before}


def second_epoch():
    """The same of the epoch after another, without a pause in which queues could be filled."""
    assert sum(len(images) for images in side.images(0))
    return epoch(1)


def first():
    """Seconds from the files, scanned before, to the first batch."""

    def run():
        side.open()
        assert len(next(iter(side.images(0)))) == BATCH

    return seconds(run)


def waits():
    """Median seconds that a consumer waits for a batch within an epoch, and for the first one of the next epoch.

    It takes a step of its own for each batch, as training does.
    """
    within, between = [], []
    for number in range(EPOCHS):
        images = iter(side.images(number))
        for position in range(len(side.loader)):
            (within if position else between).append(seconds(lambda: next(images)))  # noqa: B023
            time.sleep(STEP_S)
        assert next(images, None) is None
    return {"within": statistics.median(within), "between": statistics.median(between[1:])}


def scan():
    """Seconds to open the data set."""
    return seconds(side.scan)


def scan_cold():
    """The same, what is known about the labels forgotten before."""
    if side.labels_cache.is_dir():
        shutil.rmtree(side.labels_cache)
    else:
        side.labels_cache.unlink()
    return scan()


QUESTIONS = {call.__name__: call for call in (warm, epoch, second_epoch, first, waits, scan, scan_cold)}
who, data, options = sys.argv[1:]
DATA, OPTIONS = Path(data), json.loads(options)
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
side = {"ours": Ours, "ultralytics": Ultralytics, "albumentations": Albumentations}[who]()
side.open()
serve(lambda question: QUESTIONS[question]())
