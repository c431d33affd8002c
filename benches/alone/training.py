"""Trains for single steps: `training.py ours t 640 4`, `training.py ultralytics yolov8s 640 4`, n-seg and yolov8n-seg.

A step is forward, loss of ten boxes an image, with masks of a hundred small ones, backward and SGD with momentum, in
float32. Answers the seconds of a step and what the process has occupied at most, in MiB, before its first step and now.
"""

import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from timing import seconds, serve

NUM_CLASSES = 80
BOXES_PER_IMAGE = {"detect": 10, "segment": 100}
SIZES = {"detect": (0.05, 0.35), "segment": (0.03, 0.1)}
MASK_STRIDE = 4  # of prototypes


class Targets(NamedTuple):
    """Boxes (n, 4) as fractions, classes (n,), which image each belongs to (n,), the network's side in pixels."""

    boxes: torch.Tensor
    classes: torch.Tensor
    index: torch.Tensor
    side_px: int

    def masks(self):
        """Ellipses in the boxes: (n, h, w) of 0 and 1."""
        at = (torch.arange(self.side_px // MASK_STRIDE) + 0.5) * MASK_STRIDE / self.side_px
        x, y, w, h = self.boxes[:, :, None, None].unbind(1)
        return (((at - x) / w) ** 2 + ((at[:, None] - y) / h) ** 2 <= 0.25).to(torch.uint8)


def targets(count, side_px, task):
    rng = torch.Generator().manual_seed(0)
    each, (low, high) = BOXES_PER_IMAGE[task], SIZES[task]
    centres = torch.rand(count * each, 2, generator=rng) * 0.6 + 0.2
    sizes = torch.rand(count * each, 2, generator=rng) * (high - low) + low
    classes = torch.randint(NUM_CLASSES, (count * each,), generator=rng)
    return Targets(torch.cat([centres, sizes], 1), classes, torch.arange(count).repeat_interleave(each), side_px)


def ours(name):
    from mamba_yolo import build_detector
    from mamba_yolo.engine.memory import keep_freed_memory
    from mamba_yolo.losses import DetectionLoss, loss_of

    torch.manual_seed(0)
    keep_freed_memory()  # as train runs it
    preset, is_seg = name.removesuffix("-seg"), name.endswith("-seg")
    task = "segment" if is_seg else "detect"
    network = build_detector(preset, NUM_CLASSES, task=task).train().to(memory_format=torch.channels_last)
    criterion = loss_of(task, DetectionLoss(NUM_CLASSES))

    def loss(images, found):
        masks = (found.masks(),) if is_seg else ()
        return criterion(network(images), found.boxes, found.classes, found.index, *masks).total

    return network, loss


def ultralytics(name):
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    network = YOLO(f"{name}.yaml").model.train()
    network.args = get_cfg()

    def loss(images, found):
        batch = {
            "img": images, "bboxes": found.boxes, "cls": found.classes[:, None].float(),
            "batch_idx": found.index.float(),
        }  # fmt: skip
        if name.endswith("-seg"):  # one map per image of the number of the object in it, from 1
            number = 1 + torch.arange(len(found.index)) % BOXES_PER_IMAGE["segment"]
            maps = found.masks() * number[:, None, None].to(torch.uint8)
            batch["masks"] = maps.view(len(images), -1, *maps.shape[1:]).amax(1)
        return network.loss(batch)[0].sum()

    return network, loss


def peak_mib():
    """Of this program alone: Linux's ru_maxrss starts from the parent's. Other systems count in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def answer(_):
    def step():
        total = loss(images, found)
        assert torch.isfinite(total)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"seconds": seconds(step), "before_mib": before_mib, "peak_mib": peak_mib()}


who, model, side_px, image_count = sys.argv[1:]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
network, loss = {"ours": ours, "ultralytics": ultralytics}[who](model)
for parameter in network.parameters():
    parameter.requires_grad_(parameter.is_floating_point())
optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
images = torch.rand(int(image_count), 3, int(side_px), int(side_px))
found = targets(int(image_count), int(side_px), "segment" if model.endswith("-seg") else "detect")
before_mib = peak_mib()
serve(answer)
