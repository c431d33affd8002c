"""A batch computed in pieces where it does not fit into memory at once.

The loss is a sum over images and gradients add up, so the pieces together are the batch: the nominal batch and the
order of the images stay, only batch-norm statistics see fewer images at a time. Test: tests/engine/test_pieces.py.
"""

from __future__ import annotations

import itertools

import torch

from mamba_yolo.types import Batch

# What torch says on a CPU, where the error has no class of its own.
CPU_MESSAGES = ("can't allocate memory", "not enough memory")


def split(batch: Batch, pieces: int) -> list[Batch]:
    """Cut a batch into at most `pieces` batches of about equal size; outlines are left out."""
    bounds = torch.linspace(0, len(batch.images), min(pieces, len(batch.images)) + 1).round().int().tolist()
    return [_between(batch, start, end) for start, end in itertools.pairwise(bounds)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in CPU_MESSAGES)


def _between(batch: Batch, start: int, end: int) -> Batch:
    mine = (batch.batch_index >= start) & (batch.batch_index < end)
    return Batch(
        images=batch.images[start:end],
        boxes_cxcywh_norm=batch.boxes_cxcywh_norm[mine],
        classes=batch.classes[mine],
        batch_index=batch.batch_index[mine] - start,
        sample_index=batch.sample_index[start:end],
        letterbox=batch.letterbox[start:end],
        masks=None if batch.masks is None else batch.masks[mine],
    )
