"""From run lengths to what is drawn and written: the outline of a mask as a polygon, and the part with pixels inside.

The definition is `outline_ref.py`; the Rust kernels are rust/src/masks/outline.rs and rle.rs. Tested in
tests/ops/test_outline.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mamba_yolo.ops._native import native
from mamba_yolo.ops.masks import call_native, decode_rle, is_reference, read_rle
from mamba_yolo.ops.outline_ref import outline_ref

if TYPE_CHECKING:
    from collections.abc import Mapping

AnyPixels = TypeVar("AnyPixels", Tensor, npt.NDArray[np.uint8])


class Part(NamedTuple):
    """The rectangle of a mask that has all its pixels inside."""

    mask: Tensor
    """uint8 (h, w) 0 and 1; 0 x 0 for an empty mask."""
    left: int
    """Column of the mask where it begins."""
    top: int
    """Row of the mask where it begins."""

    def window_of(self, whole: AnyPixels) -> AnyPixels:
        """The same rectangle of a mask or picture (H, W, ...), tensor or array, to be written to."""
        height, width = self.mask.shape
        return whole[self.top : self.top + height, self.left : self.left + width]

    def enlarged(self, size: tuple[int, int], target: tuple[int, int]) -> Part:
        """The same part of a mask enlarged from `size` (H, W) to `target`; every pixel takes the nearest one."""
        if size == target or self.mask.numel() == 0:
            return self
        (rows, top), (columns, left) = (
            _nearest(start, length, old, new)
            for start, length, old, new in zip((self.top, self.left), self.mask.shape, size, target, strict=True)
        )
        return Part(self.mask[rows][:, columns], left, top)


def rle_outline(rle: Mapping[str, Any], *, backend: str = "auto") -> Tensor:
    """Corners x, y (k, 2), float32 pixels, of the outer outline of a mask's largest part, clockwise on the screen.

    Parts that touch only at a corner are apart; (0, 2) for an empty mask.

    Raises:
        DataError: as `decode_rle`.
    """
    if is_reference(backend):
        return outline_ref(decode_rle(rle, backend="reference").bool())
    corners = call_native(native.rle_outline, read_rle(rle))
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 2)


def rle_part(rle: Mapping[str, Any], *, backend: str = "auto") -> Part:
    """The smallest part of a mask with all that is inside, without decoding the rest.

    Raises:
        DataError: as `decode_rle`.
    """
    if is_reference(backend):
        mask = decode_rle(rle, backend="reference")
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows) == 0:
            return Part(mask[:0, :0], 0, 0)
        left, top = int(columns.min()), int(rows.min())
        return Part(mask[top : int(rows.max()) + 1, left : int(columns.max()) + 1], left, top)
    runs = read_rle(rle)
    left, top, right, bottom = call_native(native.rle_bounds, runs) or (0, 0, 0, 0)
    columns = torch.empty(right - left, bottom - top, dtype=torch.uint8)
    call_native(native.decode_rle_part, runs, (left, top, right, bottom), columns)
    return Part(columns.T, left, top)


def _nearest(start: int, length: int, old: int, new: int) -> tuple[Tensor, int]:
    """For pixels of the new axis over part of the old one, their places in the part; and which pixel is the first."""
    nearest = ((torch.arange(new) + 0.5) * (old / new)).long().clamp(max=old - 1) - start
    (pixels,) = ((nearest >= 0) & (nearest < length)).nonzero(as_tuple=True)
    return nearest[pixels], int(pixels[0]) if len(pixels) else 0
