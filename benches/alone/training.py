"""Trains for single steps: `training.py ours t 640 4`, `training.py ultralytics yolov8s 640 4`.

A step is forward, detection loss of ten boxes an image, backward and SGD with momentum, in float32. Answers the seconds
of a step and what the process has occupied at most, in MiB, before its first step and now.
"""

import os
import resource
import sys
from pathlib import Path

import torch

from timing import seconds, serve

BOXES_PER_IMAGE, NUM_CLASSES = 10, 80


def targets(count):
    """Boxes (n, 4) as fractions, classes (n,), and which image each belongs to (n,)."""
    rng = torch.Generator().manual_seed(0)
    total = count * BOXES_PER_IMAGE
    centres = torch.rand(total, 2, generator=rng) * 0.6 + 0.2
    sizes = torch.rand(total, 2, generator=rng) * 0.3 + 0.05
    classes = torch.randint(NUM_CLASSES, (total,), generator=rng)
    return torch.cat([centres, sizes], dim=1), classes, torch.arange(count).repeat_interleave(BOXES_PER_IMAGE)


def ours(preset):
    from mamba_yolo import build_detector
    from mamba_yolo.engine.memory import keep_freed_memory
    from mamba_yolo.losses import DetectionLoss

    torch.manual_seed(0)
    keep_freed_memory()  # as train runs it
    network = build_detector(preset, NUM_CLASSES).train().to(memory_format=torch.channels_last)
    criterion = DetectionLoss(NUM_CLASSES)
    return network, lambda images, boxes, classes, index: criterion(network(images), boxes, classes, index).total


def ultralytics(name):
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    network = YOLO(f"{name}.yaml").model.train()
    network.args = get_cfg()

    def loss(images, boxes, classes, index):
        batch = {"img": images, "bboxes": boxes, "cls": classes[:, None].float(), "batch_idx": index.float()}
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
        total = loss(images, *found)
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
found = targets(int(image_count))
before_mib = peak_mib()
serve(answer)
