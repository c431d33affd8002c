"""The tuples that travel between rooms.

Legend: B batch, H W pixels, N boxes of the whole batch, A anchors, nc classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


class RawDetections(NamedTuple):
    """What the network returns, before decoding.

    Attributes:
        levels: one (B, 64 + nc, H/s, W/s) map per stride s, box bins first, then class logits.
        mask_coefs: (B, 32, A), anchors in the order of the levels, or None for detection.
        protos: (B, 32, H/4, W/4) mask prototypes, or None for detection.
    """

    levels: list[Tensor]
    mask_coefs: Tensor | None = None
    protos: Tensor | None = None


class Sample(NamedTuple):
    """One photograph of a data set and what is known about it; nothing is decoded.

    Attributes:
        path: the image file.
        boxes_xyxy: (n, 4) float32, pixels of the upright image, x right, y down.
        classes: (n,) int64 in 0..nc-1.
        segments: n objects, each a list of (k, 2) float32 polygons in pixels; None where boxes are all there is.
        is_crowd: (n,) bool, COCO crowd regions (never trained on, ignored in evaluation).
    """

    path: Path
    boxes_xyxy: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    segments: list[list[npt.NDArray[np.float32]]] | None
    is_crowd: npt.NDArray[np.bool_]


class Segments(NamedTuple):
    """Polygons of the boxes of a batch: flat, so that they move as three tensors.

    Polygon r has the points `ring_offsets[r]` to `ring_offsets[r + 1]`; box k has the polygons `box_offsets[k]` to
    `box_offsets[k + 1]`, one per part, none where the box is all there is.

    Attributes:
        points_norm: (P, 2) float32 x, y in 0..1 of the network input, clipped to it.
        ring_offsets: (R + 1,) int64.
        box_offsets: (N + 1,) int64.
    """

    points_norm: Tensor
    ring_offsets: Tensor
    box_offsets: Tensor

    def of(self, box: int) -> list[Tensor]:
        """The (k, 2) polygons of a box."""
        rings = range(int(self.box_offsets[box]), int(self.box_offsets[box + 1]))
        return [self.points_norm[self.ring_offsets[r] : self.ring_offsets[r + 1]] for r in rings]


class Batch(NamedTuple):
    """What the loader yields.

    Attributes:
        images: (B, 3, H, W) RGB, letterboxed or augmented: uint8 0..255, or float32 0..1 from a loader with
            `dtype="float32"`.
        boxes_cxcywh_norm: (N, 4) float32 in 0..1 of the network input.
        classes: (N,) int64.
        batch_index: (N,) int64, which image of the batch a box belongs to.
        sample_index: (B,) int64, which sample of the data set an image came from.
        letterbox: (B, 3) float32 [gain, left, top]: original x = (x - left) / gain. NaN for augmented images.
        masks: (N, H/4, W/4) uint8, 1 where the centre of a pixel lies on the object and nothing was pasted above it;
            all 0 for objects with a box only. None where masks were not asked for.
        segments: polygons of the boxes, or None where the data set has none.
    """

    images: Tensor
    boxes_cxcywh_norm: Tensor
    classes: Tensor
    batch_index: Tensor
    sample_index: Tensor
    letterbox: Tensor
    masks: Tensor | None = None
    segments: Segments | None = None
