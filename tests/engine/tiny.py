"""Stand-ins that make a run take milliseconds: drawn images, a loader without threads, a network of three convolutions.

They keep the interfaces of mamba_yolo.data, the detector and the loss, so the engine under test is the real one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mamba_yolo.config import AugmentConfig, DetectorConfig, TrainConfig
from mamba_yolo.engine.checkpoint import _read
from mamba_yolo.losses import DetectionLossParts
from mamba_yolo.types import Batch, RawDetections, Sample

IMGSZ = 64
NAMES = {0: "dark", 1: "light"}


class TinyDataset:
    """Grey images of 64 x 64 with one dark or light square each; every fifth has none."""

    def __init__(self, num_images=8, names=NAMES, first=0):
        self.names = dict(names)
        self.first = first
        self.problems = []
        self.samples = [self._sample(i) for i in range(num_images)]

    def _sample(self, i):
        rng = np.random.default_rng(self.first + i)
        x, y = rng.integers(0, 32, 2)
        side = int(rng.integers(12, 30))
        boxes = np.array([[x, y, x + side, y + side]], np.float32)
        classes = np.array([rng.integers(len(self.names))])
        if i % 5 == 4:
            boxes, classes = boxes[:0], classes[:0]
        crowd = np.zeros(len(boxes), bool)
        return Sample(Path(f"image{self.first + i}.png"), boxes, classes, None, crowd)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]

    def image_size(self, i):
        return IMGSZ, IMGSZ

    def image(self, i):
        image = np.full((3, IMGSZ, IMGSZ), 128, np.uint8)
        for (x1, y1, x2, y2), c in zip(self[i].boxes_xyxy.astype(int), self[i].classes, strict=True):
            image[:, y1:y2, x1:x2] = 40 if c == 0 else 220
        return image


class TinyLoader:
    """Loader whose bytes depend on (seed, epoch, position) alone."""

    def __init__(
        self,
        dataset,
        imgsz=IMGSZ,
        batch_size=4,
        train=True,
        seed=0,
        threads=0,
        augment=AugmentConfig(),  # noqa: B008
        close_epoch=None,
        hook=None,
        cache="off",
        partners="recent",
        rect=False,
        rank=0,
        world_size=1,
        pin_memory=False,
        masks=False,
    ):
        self.dataset, self.batch_size, self.train, self.seed, self.augment = dataset, batch_size, train, seed, augment
        self.rank, self.world_size = rank, world_size

    def __len__(self):
        return max(math.ceil((math.ceil(len(self.dataset) / self.batch_size) - self.rank) / self.world_size), 0)

    def epoch(self, number):
        order = np.arange(len(self.dataset))
        rng = np.random.default_rng((self.seed, number))
        if self.train:
            rng.shuffle(order)
        for number, chosen in enumerate(np.split(order, range(self.batch_size, len(order), self.batch_size))):
            noise = rng.integers(0, 8, (len(chosen), 3, IMGSZ, IMGSZ)) if self.train else 0
            images = np.stack([self.dataset.image(i) for i in chosen]) + noise
            if number % self.world_size == self.rank:
                yield self._batch(images.astype(np.uint8), chosen)

    def _batch(self, images, chosen):
        samples = [self.dataset[i] for i in chosen]
        boxes = np.concatenate([s.boxes_xyxy for s in samples]) / IMGSZ
        boxes = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        return Batch(
            images=torch.from_numpy(images),
            boxes_cxcywh_norm=torch.from_numpy(boxes.astype(np.float32)),
            classes=torch.from_numpy(np.concatenate([s.classes for s in samples]).astype(np.int64)),
            batch_index=torch.tensor([n for n, s in enumerate(samples) for _ in s.classes], dtype=torch.int64),
            sample_index=torch.from_numpy(np.asarray(chosen)),
            letterbox=torch.tensor([[1.0, 0.0, 0.0]] * len(chosen)),
        )

    def state_dict(self):
        return {"seed": self.seed}

    def load_state_dict(self, state):
        assert state == {"seed": self.seed}


class TinyDetector(nn.Module):
    """Same forward signature, attributes and output layout as the detector; batch norm and dropout included."""

    strides = (8, 16, 32)

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 8, 8, bias=False), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.1))
        self.down = nn.ModuleList([nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)])
        self.head = nn.ModuleList([nn.Conv2d(8, 64 + config.num_classes, 1) for _ in range(3)])

    def forward(self, images):
        maps = [self.stem(images)]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        return RawDetections([head(m) for head, m in zip(self.head, maps, strict=True)])


class TinyLoss:
    """A smooth function of the outputs; the cell at the centre of a box should have a high score for its class."""

    def __init__(self, num_classes, strides=(8, 16, 32), box=7.5, cls=0.5, dfl=1.5, class_weights=None):
        self.num_classes = num_classes

    def __call__(self, raw, boxes, classes, batch_index):
        level = raw.levels[0]
        side = level.shape[-1]
        target = torch.zeros_like(level[:, 64:])
        cells = (boxes[:, :2] * side).long().clamp(0, side - 1)
        target[batch_index, classes, cells[:, 1], cells[:, 0]] = 1
        cls = nn.functional.binary_cross_entropy_with_logits(level[:, 64:], target)
        box = sum(m[:, :64].square().mean() for m in raw.levels)
        return DetectionLossParts(
            (cls + box) * len(level), box.detach(), cls.detach(), box.detach() * 0, torch.tensor(len(level))
        )


def tiny_config(folder, **options):
    """Options of a run of 4 epochs of 2 batches on the CPU."""
    values = {"data": "tiny", "epochs": 4, "imgsz": IMGSZ, "batch": 4, "nbs": 8, "device": "cpu", "plots": False}
    return TrainConfig(**(values | {"project": str(folder)} | options))


def open_tiny(path, split="train"):
    """As open_dataset: 8 training images, 5 for validation."""
    return TinyDataset(8) if split == "train" else TinyDataset(5, first=100)


def install(patch):
    """Put the stand-ins in the engine's hands; `patch(module, name, value)` is setattr or monkeypatch.setattr."""
    from mamba_yolo.engine import checkpoint, prepare

    patch(prepare, "open_dataset", open_tiny)
    patch(prepare, "Loader", TinyLoader)
    patch(prepare, "DetectionLoss", TinyLoss)
    patch(checkpoint, "Detector", TinyDetector)


def tiny_detector(num_classes=2, seed=0):
    torch.manual_seed(seed)
    return TinyDetector(DetectorConfig(num_classes=num_classes))


def assert_same_run(a, b):
    """Every tensor of both files bit for bit, and every figure but the time."""
    for name in ("last", "best"):
        first, second = (_read(f / "weights" / f"{name}.safetensors")[0] for f in (a, b))
        assert first.keys() == second.keys()
        assert [k for k in first if not torch.equal(first[k], second[k])] == []
    rows = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (a, b)]
    for row in rows[0] + rows[1]:
        row.pop("time")
        row["validation"].pop("speed_ms")
    assert rows[0] == rows[1]
    columns = [
        [line.split(",")[:1] + line.split(",")[2:] for line in (f / "results.csv").read_text().splitlines()]
        for f in (a, b)
    ]
    assert columns[0] == columns[1]
