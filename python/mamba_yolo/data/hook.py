"""A user's own change of training pictures: a Python callable on (image, boxes, classes).

The hook gets a uint8 (H, W, 3) RGB picture, (n, 4) float32 corners in its pixels and (n,) int64 classes, all its own
to change, and returns the three again, boxes in any number. It runs in the thread that takes the batches, one picture
after the other, and holds the interpreter: its time comes on top of every step, while the Rust threads go on loading.
Copying a 640 x 640 picture there and back costs about 1 ms beside the hook's own time. Test: tests/data/test_hook.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mamba_yolo.types import Batch

Hook = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def apply_hook(hook: Hook, batch: Batch) -> Batch:
    """The batch with every picture and its boxes changed; polygons are left out.

    Raises:
        ConfigError: the hook returns something else than a picture of the same size, boxes inside it and classes.
    """
    side = np.array([*batch.images.shape[:1:-1]] * 2, np.float32)  # width, height, width, height
    boxes, classes, owners = [], [], []
    for k, picture in enumerate(batch.images):
        mine = batch.batch_index == k
        b = batch.boxes_cxcywh_norm[mine].numpy()
        corners = np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], axis=1)
        corners = np.clip(corners * side, 0, side)  # rounding may lead out
        image = picture.permute(1, 2, 0).contiguous().numpy()
        returned = hook(image, corners, batch.classes[mine].numpy())
        image, corners, kinds = _checked(returned, tuple(image.shape))
        batch.images[k] = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        sized = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1) / side
        boxes.append(sized)
        classes.append(kinds)
        owners.append(np.full(len(kinds), k))
    return batch._replace(
        boxes_cxcywh_norm=torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        classes=torch.from_numpy(np.concatenate(classes).astype(np.int64)),
        batch_index=torch.from_numpy(np.concatenate(owners)),
        segments=None,
    )


def _checked(returned: Any, shape: tuple[int, ...]) -> tuple[npt.NDArray[Any], ...]:
    """What a hook returned, or one line about what is wrong with it."""
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise ConfigError(f"the hook must return (image, boxes, classes), got {type(returned).__name__}")
    image, boxes, classes = np.asarray(returned[0]), np.asarray(returned[1], np.float32), np.asarray(returned[2])
    if image.dtype != np.uint8 or image.shape != shape:
        raise ConfigError(f"the hook must return a uint8 image of shape {shape}, got {image.dtype} {image.shape}")
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or classes.shape != (len(boxes),):
        raise ConfigError(f"the hook must return boxes (n, 4) and classes (n,), got {boxes.shape} and {classes.shape}")
    limits = np.array([shape[1], shape[0]] * 2)
    if not ((boxes >= 0) & (boxes <= limits)).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ConfigError("the hook returned a box that is not x1 <= x2, y1 <= y2 inside the image; clip its boxes")
    return image, boxes, classes
