"""Polygons of a run-length mask, one per part, along pixel edges; holes are cut open.

Each polygon holds its part alone by the even-odd rule and by that of COCO, so `rle_from_polygon` and `merge_rle` give
the mask again, and a polygon stays right when it is clipped or moved. The definition is `rings_ref.py`; the Rust kernel
is rust/src/masks/rings.rs. Tested in tests/ops/test_rings.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.ops import rings_ref
from mamba_yolo.ops._native import native
from mamba_yolo.ops.masks import call_native, decode_rle, is_reference, read_rle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def polygons_from_rle(rle: Mapping[str, Any], *, backend: str = "auto") -> list[Tensor]:
    """Polygons (k, 2), float32 x, y in pixels, of the parts of a mask; none for an empty one.

    Raises:
        DataError: as `decode_rle`.
    """
    if is_reference(backend):
        corners = rings_ref.polygons_of(decode_rle(rle, backend=backend))
        return [torch.tensor(ring, dtype=torch.float32) for ring in corners]
    return [torch.from_numpy(ring) for ring in call_native(native.polygons_from_rle, read_rle(rle))]
