"""Masks of found objects, from mask coefficients and prototypes, as pixels or as run lengths.

Only the cells of the prototypes under a box are multiplied, and run lengths are found without the pixels. The
definition is `instances_ref.py`; the Rust kernels are rust/src/masks/instances. Tested in tests/ops/test_instances.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import choose_backend
from mamba_yolo.ops.instances_ref import instance_masks_ref
from mamba_yolo.ops.masks import Rle, encode_rle

if TYPE_CHECKING:
    from torch import Tensor

_CPU = torch.device("cpu")


class _Objects(NamedTuple):
    """Checked float32 tensors on the CPU: (N, C), (C, h, w), (N, 4)."""

    coefs: Tensor
    protos: Tensor
    boxes: Tensor


def instance_masks(
    coefs: Tensor,
    protos: Tensor,
    boxes_xyxy: Tensor,
    height: int,
    width: int,
    *,
    gain: float,
    left: float,
    top: float,
    backend: str = "auto",
) -> Tensor:
    """Masks (N, height, width) of objects, uint8 0 and 1, on the CPU.

    Args:
        coefs: (N, C); any float type, computed in float32, as are the others.
        protos: (C, h, w), cells of 4 pixels of the network's input; h and w at least 2.
        boxes_xyxy: (N, 4) in pixels of the masks; pixels they do not touch are outside.
        height: of the masks.
        width: of the masks.
        gain: pixels of the network's input per pixel of the masks.
        left: of the masks in the network's input, in its pixels: (x + 0.5) * gain + left there is x + 0.5 here.
        top: the same along y.
        backend: auto, reference or rust; tensors on other devices are brought to the CPU.

    Raises:
        DetectionError: shapes that do not fit, NaN or infinity among coefficients or boxes, more pixels than the
            decoders allow, masks that do not fit into memory.
        ConfigError: a gain that is not above 0, padding that is not finite.
    """
    objects = _checked(coefs, protos, boxes_xyxy, height, width, (gain, left, top))
    if choose_backend(backend, _CPU) == "reference":
        return instance_masks_ref(*objects, (height, width), gain, left, top)
    try:
        # unlike torch's, numpy's zeros cost nothing where nobody writes
        masks = torch.from_numpy(np.zeros((len(objects.coefs), height, width), np.uint8))
    except MemoryError:
        size = f"{len(objects.coefs)} masks of {height} x {width} pixels"
        raise DetectionError(f"{size} do not fit into memory; use instance_rles, or fewer objects") from None
    placing = _shape(objects), (height, width), (gain, left, top)
    native.instance_masks(objects, placing, masks, torch.get_num_threads())
    return masks


def instance_rles(
    coefs: Tensor,
    protos: Tensor,
    boxes_xyxy: Tensor,
    height: int,
    width: int,
    *,
    gain: float,
    left: float,
    top: float,
    backend: str = "auto",
) -> list[Rle]:
    """The masks that `instance_masks` finds, as COCO run lengths; memory for pixels is never needed.

    Args:
        coefs: as for `instance_masks`.
        protos: as for `instance_masks`.
        boxes_xyxy: as for `instance_masks`.
        height: as for `instance_masks`.
        width: as for `instance_masks`.
        gain: as for `instance_masks`.
        left: as for `instance_masks`.
        top: as for `instance_masks`.
        backend: as for `instance_masks`.

    Raises:
        DetectionError: as `instance_masks`.
        ConfigError: as `instance_masks`.
    """
    objects = _checked(coefs, protos, boxes_xyxy, height, width, (gain, left, top))
    if choose_backend(backend, _CPU) == "reference":
        coefs, protos, boxes = objects
        one_by_one = (
            instance_masks_ref(coefs[i : i + 1], protos, boxes[i : i + 1], (height, width), gain, left, top)
            for i in range(len(coefs))
        )
        return [encode_rle(masks[0], backend="reference") for masks in one_by_one]
    placing = _shape(objects), (height, width), (gain, left, top)
    texts = native.instance_rles(objects, placing, torch.get_num_threads())
    return [{"size": [height, width], "counts": text} for text in texts]


def _shape(objects: _Objects) -> tuple[int, int, int]:
    """C, h, w."""
    channels, high, wide = objects.protos.shape
    return channels, high, wide


def _checked(
    coefs: Tensor, protos: Tensor, boxes: Tensor, height: int, width: int, placing: tuple[float, float, float]
) -> _Objects:
    if coefs.ndim != 2 or protos.ndim != 3 or coefs.shape[1] != len(protos) or min(protos.shape[1:]) < 2:
        got = f"{tuple(coefs.shape)} and {tuple(protos.shape)}"
        raise DetectionError(f"coefs and protos must have shapes (N, C) and (C, 2 or more, 2 or more), got {got}")
    if boxes.shape != (len(coefs), 4):
        raise DetectionError(
            f"boxes of {len(coefs)} objects must have shape ({len(coefs)}, 4), got {tuple(boxes.shape)}"
        )
    limit = native.MAX_MASK_PIXELS
    if height < 0 or width < 0 or max(height, width) > limit or height * width > limit:
        raise DetectionError(f"a mask of {height} x {width} pixels is not between 0 and the limit of {limit} pixels")
    if not (placing[0] > 0 and all(math.isfinite(value) for value in placing)):
        raise ConfigError(f"gain must be above 0, and gain, left and top finite, got {placing}")
    objects = _Objects(*(tensor.detach().to("cpu", torch.float32) for tensor in (coefs, protos, boxes)))
    for name, tensor in ("coefs", objects.coefs), ("boxes", objects.boxes):
        if not bool(tensor.isfinite().all()):
            raise DetectionError(f"{name} hold NaN or infinity; look at the network's output, or its weights")
    return objects
