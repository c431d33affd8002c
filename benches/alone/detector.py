"""Times one forward of a detector: `detector.py ours t`, `detector.py ultralytics yolov8s channels_last`."""

import os
import sys

import torch

from timing import seconds, serve

SIDE_PX, CHECKED_PX = 640, 32
TOLERANCE = 1e-4


def ours(preset):
    from mamba_yolo import build_detector
    from mamba_yolo.engine.inference import Network
    from mamba_yolo.models import decode

    torch.manual_seed(0)
    plain = build_detector(preset).eval()
    detector = Network(plain, "float32")  # as predict runs it
    small = torch.rand(1, 3, CHECKED_PX, CHECKED_PX)
    got = decode(detector(small))
    os.environ["MAMBA_YOLO_BACKEND"] = "reference"
    expected = decode(plain.double()(small.double()))
    del os.environ["MAMBA_YOLO_BACKEND"]
    assert (got - expected).abs().max() < TOLERANCE * expected.abs().max()
    return lambda images: decode(detector(images))


def ultralytics(name, layout):
    from ultralytics import YOLO

    network = YOLO(f"{name}.yaml").model.eval()
    network.fuse()
    formats = {"default": torch.contiguous_format, "channels_last": torch.channels_last}
    network.to(memory_format=formats[layout])
    return lambda images: network(images.contiguous(memory_format=formats[layout]))


who, *arguments = sys.argv[1:]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
with torch.inference_mode():
    forward = {"ours": ours, "ultralytics": ultralytics}[who](*arguments)
    batch = torch.rand(1, 3, SIDE_PX, SIDE_PX)
    serve(lambda _: seconds(lambda: forward(batch)))
