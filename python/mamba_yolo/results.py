"""What prediction returns: one Results per image, with the attributes that YOLO users and supervision look for.

Tensors are on the CPU; coordinates are pixels of the upright original image. Test: tests/test_results.py.

Legend: H W pixels, N objects.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from mamba_yolo.boxes import cxcywh_from_xyxy
from mamba_yolo.errors import ConfigError, MissingPackageError
from mamba_yolo.ops import encode_rle, rle_outline, rle_part
from mamba_yolo.visual.draw import draw_detections
from mamba_yolo.visual.write import write_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.ops.outline import Part

NUM_BOX_COLUMNS = 6  # x1 y1 x2 y2 score class
ROUND_DIGITS = 5


class Boxes:
    """Boxes of one image.

    Args:
        data: (N, 6) x1 y1 x2 y2 in pixels, score, class; a tensor or anything torch makes one of.
        orig_shape: (H, W) of the image.
        ids: (N,) track numbers, or None.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int], ids: Tensor | None = None) -> None:
        self.data = torch.as_tensor(data, dtype=torch.float32).cpu()
        if self.data.numel() == 0:
            self.data = self.data.reshape(0, NUM_BOX_COLUMNS)
        if self.data.ndim != 2 or self.data.shape[1] != NUM_BOX_COLUMNS:
            raise ConfigError(f"boxes must have shape (N, 6): x1 y1 x2 y2 score class, got {tuple(self.data.shape)}")
        self.orig_shape = orig_shape
        self.id = ids

    @property
    def xyxy(self) -> Tensor:
        """Corners in pixels, (N, 4)."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Tensor:
        """Centre and size in pixels, (N, 4)."""
        return cxcywh_from_xyxy(self.xyxy)

    @property
    def xyxyn(self) -> Tensor:
        """Corners as fractions of the image, (N, 4)."""
        return self.xyxy / self._sides()

    @property
    def xywhn(self) -> Tensor:
        """Centre and size as fractions of the image, (N, 4)."""
        return self.xywh / self._sides()

    @property
    def conf(self) -> Tensor:
        """Scores in 0..1, (N,)."""
        return self.data[:, 4]

    @property
    def cls(self) -> Tensor:
        """Class indices as float, (N,)."""
        return self.data[:, 5]

    def _sides(self) -> Tensor:
        height, width = self.orig_shape
        return torch.tensor([width, height, width, height], dtype=torch.float32)

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.data)

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Boxes:
        """Some of the boxes, still as Boxes."""
        rows = _rows(index, len(self))
        return Boxes(self.data[rows], self.orig_shape, None if self.id is None else self.id[rows])

    def __iter__(self) -> Iterator[Boxes]:
        """One Boxes per box."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Boxes({len(self)} boxes, orig_shape={self.orig_shape})"


class Masks:
    """Masks of one image, kept as run lengths; pixels are made when they are asked for.

    Args:
        data: (N, H, W), nonzero inside, at the size of the original image.
        orig_shape: (H, W) of the image.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        pixels = torch.as_tensor(data).cpu()
        if pixels.ndim != 3 or tuple(pixels.shape[1:]) != tuple(orig_shape):
            raise ConfigError(f"masks must have shape (N, {orig_shape[0]}, {orig_shape[1]}), got {_shape(pixels)}")
        self.rles = [encode_rle(mask) for mask in pixels]
        self.shape = self.orig_shape = orig_shape

    @classmethod
    def from_rles(cls, rles: Sequence[Rle], shape: tuple[int, int], orig_shape: tuple[int, int]) -> Masks:
        """Masks of one size (h, w), that of the image or a smaller one, which covers all of the image."""
        masks = cls(torch.zeros(0, *orig_shape), orig_shape)
        masks.rles, masks.shape = list(rles), shape
        return masks

    @functools.cached_property
    def data(self) -> Tensor:
        """Pixels (N, h, w), uint8 0 and 1, at the size of the original image, or smaller without `retina_masks`."""
        pixels = torch.from_numpy(np.zeros((len(self), *self.shape), np.uint8))  # costs nothing where nobody writes
        for mask, part in zip(pixels, map(rle_part, self.rles), strict=True):
            part.window_of(mask).copy_(part.mask)
        return pixels

    @property
    def xy(self) -> list[npt.NDArray[np.float32]]:
        """Outline of the largest part of every mask: N arrays (k, 2) of x, y in pixels of the original image."""
        scale = torch.tensor([self.orig_shape[1] / max(self.shape[1], 1), self.orig_shape[0] / max(self.shape[0], 1)])
        return [(rle_outline(rle) * scale).numpy() for rle in self.rles]

    def parts(self) -> Iterator[Part]:
        """The pixels of each mask without the empty ones around it, at the size of the original image."""
        return (rle_part(rle).enlarged(self.shape, self.orig_shape) for rle in self.rles)

    def coco(self) -> list[Rle]:
        """COCO run lengths of every mask, at the size of the original image."""
        if self.shape == self.orig_shape:
            return list(self.rles)
        rles = []
        for part in self.parts():
            mask = torch.zeros(self.orig_shape, dtype=torch.uint8)
            part.window_of(mask).copy_(part.mask)
            rles.append(encode_rle(mask))
        return rles

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.rles)

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Masks:
        """Some of the masks, still as Masks."""
        rows = torch.arange(len(self))[_rows(index, len(self))]
        return Masks.from_rles([self.rles[i] for i in rows.tolist()], self.shape, self.orig_shape)

    def __iter__(self) -> Iterator[Masks]:
        """One Masks per mask."""
        return (self[i] for i in range(len(self)))


@dataclass(repr=False)
class Results:
    """Everything found in one image."""

    path: str
    """The image file, or a made-up name such as image0 for images from memory."""
    names: dict[int, str]
    """Class index to class name."""
    orig_shape: tuple[int, int]
    """(H, W) of the upright image."""
    boxes: Boxes
    """Boxes by falling score."""
    masks: Masks | None = None
    """Masks in the order of the boxes; None for detection models."""
    orig_image: npt.NDArray[np.uint8] | None = None
    """uint8 (H, W, 3) RGB."""
    speed: dict[str, float] = field(default_factory=dict)
    """Milliseconds per image: preprocess, inference, postprocess."""

    obb: ClassVar[None] = None  # other kinds of result that supervision and scripts ask for; never present here
    keypoints: ClassVar[None] = None
    probs: ClassVar[None] = None

    def __len__(self) -> int:
        """Number of objects found."""
        return len(self.boxes)

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Results:
        """Results with some of the objects."""
        masks = None if self.masks is None else self.masks[index]
        return Results(
            self.path, self.names, self.orig_shape, self.boxes[index], masks, self.orig_image, dict(self.speed)
        )

    def __iter__(self) -> Iterator[Results]:
        """One Results per object."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Results({self.verbose()})"

    def verbose(self) -> str:
        """One line: path, size and how many of each class."""
        height, width = self.orig_shape
        classes = self.boxes.cls.int().tolist()
        counts = ", ".join(f"{classes.count(c)} {self.name_of(c)}" for c in sorted(set(classes))) or "nothing found"
        return f"{self.path} {width}x{height}: {counts}"

    def name_of(self, class_index: int) -> str:
        """Name of a class; its number when it has none."""
        return self.names.get(class_index, str(class_index))

    def plot(self) -> npt.NDArray[np.uint8]:
        """A copy of the image with boxes, masks and labels drawn on it: uint8 (H, W, 3), RGB."""
        if self.orig_image is None:
            raise ConfigError(f"{self.path}: these results hold no image to draw on; set .orig_image (uint8 RGB) first")
        masks = () if self.masks is None else self.masks.parts()
        boxes = self.boxes
        return draw_detections(self.orig_image, boxes.xyxy, boxes.cls, boxes.conf, self.names, masks)

    def save(self, path: str | Path) -> Path:
        """Write `plot()` to a file whose ending chooses the format, and return its path."""
        return write_picture(self.plot(), Path(path))

    def summary(self) -> list[dict[str, Any]]:
        """One plain dict per object: name, class, confidence, box {x1 y1 x2 y2}, and segments {x y} with masks."""
        rows: list[dict[str, Any]] = []
        outlines = None if self.masks is None else self.masks.xy
        for i, (x1, y1, x2, y2, score, class_index) in enumerate(self.boxes.data.tolist()):
            corners = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            row = {
                "name": self.name_of(int(class_index)),
                "class": int(class_index),
                "confidence": round(score, ROUND_DIGITS),
                "box": {side: round(value, ROUND_DIGITS) for side, value in corners.items()},
            }
            if self.boxes.id is not None:
                row["track_id"] = int(self.boxes.id[i])
            if outlines is not None:
                row["segments"] = {"x": outlines[i][:, 0].tolist(), "y": outlines[i][:, 1].tolist()}
            rows.append(row)
        return rows

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO's results: image_id, category_id (our class), bbox [x y w h], score, with masks segmentation (RLE)."""
        rles = [None] * len(self) if self.masks is None else self.masks.coco()
        rows: list[dict[str, Any]] = []
        for (x1, y1, x2, y2, score, class_index), rle in zip(self.boxes.data.tolist(), rles, strict=True):
            bbox = [round(value, ROUND_DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)]
            row = {"image_id": image_id, "category_id": int(class_index), "bbox": bbox}
            rows.append(row | {"score": round(score, ROUND_DIGITS)} | ({} if rle is None else {"segmentation": rle}))
        return rows

    def to_json(self) -> str:
        """`summary()` as JSON text."""
        return json.dumps(self.summary())

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections` (needs the supervision package)."""
        try:
            from supervision import Detections
        except ImportError as error:
            raise MissingPackageError("supervision is missing; pip install 'mamba-yolo[supervision]'") from error
        return Detections.from_ultralytics(self)


def _rows(index: int | slice | Tensor | list[int], length: int) -> slice | Tensor | list[int]:
    """The index in a form that keeps the first dimension."""
    if not isinstance(index, int):
        return index
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for {length} objects")
    first = index % length
    return slice(first, first + 1)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
