"""`mamba-yolo benchmark`: latency of whole predictions on this machine, network and NMS, without decoding.

The median of timed runs after one that is not timed; a GPU is waited for. Test: tests/cli/test_benchmark.py.
"""

from __future__ import annotations

import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.engine.checkpoint import load_model
from mamba_yolo.engine.device import pick_device
from mamba_yolo.models import decode
from mamba_yolo.ops import nms_head

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import BenchmarkConfig
    from mamba_yolo.models import Detector

CONF, IOU = 0.25, 0.7


def run(config: BenchmarkConfig) -> Outcome:
    """Time every model at every size."""
    device = pick_device(config.device)
    rows = []
    for model in config.model:
        detector = load_model(model).detector.to(device).eval()
        for imgsz in config.imgsz:
            median_ms = 1000 * statistics.median(_seconds(detector, imgsz, config, device)) / config.batch
            rows.append((model, imgsz, config.batch, median_ms, 1000 / median_ms))
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    columns = ("model", "imgsz", "batch", "ms_per_image", "images_per_s")
    data: dict[str, Any] = {
        **machine,
        "runs": config.runs,
        "results": [dict(zip(columns, r, strict=True)) for r in rows],
    }
    title = f"median of {config.runs} runs, float32, {machine['device']}, {machine['threads']} threads"
    return Outcome([table(title, columns, rows)], data)


@torch.inference_mode()
def _seconds(detector: Detector, imgsz: int, config: BenchmarkConfig, device: torch.device) -> list[float]:
    """Seconds per step, the warm-up left out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((config.batch, 3, imgsz, imgsz), generator=generator).to(device)
    spans = []
    for _ in range(config.runs + 1):
        start = time.perf_counter()
        # copying the result to the CPU waits for the GPU
        nms_head(decode(detector(images)).float().cpu(), conf_thr=CONF, iou_thr=IOU)
        spans.append(time.perf_counter() - start)
    return spans[1:]
