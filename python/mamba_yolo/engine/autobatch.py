"""How many images fit into a GPU: two steps are measured, and memory is taken to grow in a line with the batch.

On a CPU memory is seldom what limits a run, and larger batches are not quicker: 16.
Test: tests/engine/test_autobatch.py.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from mamba_yolo.config import AUTO_BATCH
from mamba_yolo.engine.freeze import train_unfrozen
from mamba_yolo.engine.pieces import is_out_of_memory
from mamba_yolo.engine.ranks import ALONE, Ranks
from mamba_yolo.engine.step import choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.progress import Reporter
    from mamba_yolo.models.detector import Detector

CPU_BATCH = 16
SHARE = 2 / 3  # of the memory; the rest is for batches with many boxes, and for other programs
PROBES = (2, 6)  # images
STATES_PER_WEIGHT = 3  # averaged weights and two moments, which the probes lack


def chosen_batch(
    config: TrainConfig, detector: Detector, num_images: int, reporter: Reporter, ranks: Ranks = ALONE
) -> int:
    """Images per step of all ranks: those of the options, or as many as fit, but hardly more than there are.

    Rank 0 measures for all; a batch it chooses can be shared evenly.
    """
    if config.batch != AUTO_BATCH:
        return config.batch
    fitting, why = _fitting(config, detector, ranks.world_size) if ranks.is_first else (0, "")
    batch = max(min(fitting, num_images) // ranks.world_size, 1) * ranks.world_size
    reporter.say(f"batch {batch}: {why}")
    return int(ranks.same_text(str(batch)))


def _fitting(config: TrainConfig, detector: Detector, world_size: int) -> tuple[int, str]:
    """As many images of all ranks as fit, and why."""
    device = next(detector.parameters()).device
    if device.type != "cuda":
        return CPU_BATCH, "on a CPU larger ones are not quicker"
    weights = sum(p.numel() * p.element_size() for p in detector.parameters())
    free, total = torch.cuda.mem_get_info(device)
    room = min(SHARE * total, free) - STATES_PER_WEIGHT * weights
    fitting = world_size * fitting_batch(lambda n: measured_step(detector, config, n), room)
    return fitting, f"fills {SHARE:.0%} of the {total / 2**30:.1f} GiB of {device}"


def fitting_batch(measure: Callable[[int], int], room: float) -> int:
    """The largest batch that fits into `room` bytes, by the line through two measurements; at least 1.

    Args:
        measure: bytes of a step with so many images; may run out of memory.
        room: bytes.
    """
    try:
        low, high = (measure(n) for n in PROBES)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 1
    per_image = max((high - low) / (PROBES[1] - PROBES[0]), 1.0)
    return max(int((room - low) / per_image) + PROBES[0], 1)


def measured_step(detector: Detector, config: TrainConfig, num_images: int) -> int:
    """Most GPU memory of a forward and backward of random images, in bytes; the detector stays as it is."""
    device = next(detector.parameters()).device
    precision = choose_precision(device, config.amp, config.amp_dtype)
    side = config.imgsz * 3 // 2 if config.augment.multi_scale else config.imgsz
    torch.cuda.reset_peak_memory_stats(device)
    with torch.random.fork_rng([device]):
        probe = copy.deepcopy(detector)
        train_unfrozen(probe)
        images = torch.rand(num_images, 3, side, side, device=device)
        with torch.autocast(device.type, precision.autocast, precision.autocast is not None):
            raw = probe(images)
        maps = [*raw.levels, *(m for m in (raw.mask_coefs, raw.protos) if m is not None)]
        sum(m.float().square().mean() for m in maps).backward()
    return torch.cuda.max_memory_allocated(device)
