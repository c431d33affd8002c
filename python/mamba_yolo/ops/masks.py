"""Masks as run lengths (COCO RLE) and polygons as masks, equal to pycocotools bit for bit.

An RLE is COCO's dictionary: "size" is [height, width], "counts" the compressed text or a list of runs down the columns,
the first one outside. The definition is `masks_ref.py`; the Rust kernels are rust/src/masks. Tested in
tests/ops/test_masks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import torch

from mamba_yolo.errors import DataError
from mamba_yolo.ops import masks_ref
from mamba_yolo.ops._native import native
from mamba_yolo.ops.dispatch import choose_backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

_CPU = torch.device("cpu")
_LONGEST_RUN = 2**32 - 1


class Rle(TypedDict):
    """A mask as run lengths, as pycocotools writes them but for str in place of bytes."""

    size: list[int]
    counts: str


def encode_rle(mask: Tensor, *, backend: str = "auto") -> Rle:
    """Run lengths of a mask (H, W); anything but 0 is inside.

    Raises:
        DataError: another shape, or more pixels than the decoders allow.
    """
    if mask.ndim != 2:
        raise DataError(f"a mask must have shape (H, W), got {tuple(mask.shape)}")
    height, width = mask.shape
    columns = (mask.cpu() != 0).T.to(torch.uint8).contiguous()
    if is_reference(backend):
        return _rle(height, width, masks_ref.text_of(masks_ref.runs_of(columns)))
    return _rle(height, width, call_native(native.encode_rle, height, width, columns))


def decode_rle(rle: Mapping[str, Any], *, backend: str = "auto") -> Tensor:
    """The mask (H, W) of run lengths, uint8 0 and 1; its columns lie together in memory.

    Raises:
        DataError: damaged runs, runs that do not fill the size, or more pixels than the decoders allow.
    """
    height, width, counts = read_rle(rle)
    if is_reference(backend):
        return masks_ref.columns_of(_checked(height, width, counts), height, width).T
    columns = torch.empty(width, height, dtype=torch.uint8)
    call_native(native.decode_rle, (height, width, counts), columns)
    return columns.T


def rle_area(rle: Mapping[str, Any], *, backend: str = "auto") -> int:
    """Pixels inside.

    Raises:
        DataError: as `decode_rle`.
    """
    height, width, counts = read_rle(rle)
    if is_reference(backend):
        return sum(_checked(height, width, counts)[1::2])
    area: int = call_native(native.rle_area, (height, width, counts))
    return area


def merge_rle(rles: Sequence[Mapping[str, Any]], *, intersect: bool = False, backend: str = "auto") -> Rle:
    """What is inside any of the masks, or inside all of them.

    Raises:
        DataError: no mask, sizes that differ, and as `decode_rle`.
    """
    masks = [read_rle(rle) for rle in rles]
    if len({(height, width) for height, width, _ in masks}) != 1:
        raise DataError(f"masks to merge must be one or more of one size, got {[list(m[:2]) for m in masks]}")
    height, width, _ = masks[0]
    if is_reference(backend):
        columns = torch.stack([masks_ref.columns_of(_checked(*mask), height, width) for mask in masks])
        merged = columns.amin(0) if intersect else columns.amax(0)
        return _rle(height, width, masks_ref.text_of(masks_ref.runs_of(merged)))
    return _rle(height, width, call_native(native.merge_rle, masks, intersect))


def rle_from_polygon(polygon: Any, height: int, width: int, *, backend: str = "auto") -> Rle:
    """Run lengths of a polygon (k, 2) of x, y in pixels, by the rule of pycocotools.

    Raises:
        DataError: fewer than three points, coordinates that are not finite or beyond 65 536 pixels.
    """
    points = _points(polygon)
    _check_size(height, width)
    if is_reference(backend):
        return _rle(height, width, masks_ref.text_of(masks_ref.runs_of_polygon(points, height, width)))
    return _rle(height, width, call_native(native.rle_from_polygon, points, height, width))


def polygons_to_masks(
    objects: Iterable[Iterable[Any]], height: int, width: int, *, scale: float = 1.0, backend: str = "auto"
) -> Tensor:
    """Masks (n, H, W), uint8 0 and 1, of objects of one or more polygons (k, 2) of x, y in pixels.

    Args:
        objects: the polygons of each object; its mask is their union.
        height: of the masks.
        width: of the masks.
        scale: of the masks beside the polygons: 0.25 for prototypes at a quarter of the image.
        backend: auto, reference or rust.

    Raises:
        DataError: as `rle_from_polygon`.
    """
    points = [[_points(polygon) for polygon in polygons] for polygons in objects]
    _check_size(height, width)
    masks = torch.zeros(len(points), height, width, dtype=torch.uint8)
    if masks.numel() == 0:
        return masks
    if not is_reference(backend):
        call_native(native.fill_polygons, points, scale, (height, width), masks, torch.get_num_threads())
        return masks
    for mask, polygons in zip(masks, points, strict=True):
        for polygon in polygons:
            runs = masks_ref.runs_of_polygon(polygon * scale, height, width)
            mask.logical_or_(masks_ref.columns_of(runs, height, width).T)
    return masks


def _rle(height: int, width: int, counts: str) -> Rle:
    return {"size": [height, width], "counts": counts}


def read_rle(rle: Mapping[str, Any]) -> tuple[int, int, str | list[int]]:
    """Height, width and counts for the kernels, with what cannot be checked later."""
    try:
        (height, width), counts = rle["size"], rle["counts"]
        counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
        if not isinstance(counts, str):
            counts = [int(count) for count in counts]
            if any(not 0 <= count <= _LONGEST_RUN for count in counts):
                raise DataError("damaged RLE: a run is negative or too long")
        height, width = int(height), int(width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"an RLE must have size [height, width] and counts, got {_short(rle)}") from None
    _check_size(height, width)
    return height, width, counts


def _check_size(height: int, width: int) -> None:
    limit = native.MAX_MASK_PIXELS
    if height < 0 or width < 0 or max(height, width) > limit or height * width > limit:
        raise DataError(f"a mask of {height} x {width} pixels is not between 0 and the limit of {limit} pixels")


def _checked(height: int, width: int, counts: str | list[int]) -> list[int]:
    """The runs of a mask for the definition, which trusts them."""
    runs = masks_ref.runs_from_text(counts) if isinstance(counts, str) else counts
    if sum(runs) != height * width:
        raise DataError(f"the runs of an RLE must sum to {height} x {width}, got {sum(runs)}; wrong size or damaged")
    return runs


def _points(polygon: Any) -> Tensor:
    try:
        points = torch.as_tensor(polygon, dtype=torch.float64).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"a polygon must be (k, 2) numbers: {error}") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(f"a polygon must have shape (k, 2), got {tuple(points.shape)}")
    if len(points) < 3:
        raise DataError(f"a polygon needs 3 points or more, got {len(points)}")
    return points


def is_reference(backend: str) -> bool:
    """Whether the definition is asked for; masks are on the CPU."""
    return choose_backend(backend, _CPU) == "reference"


def _short(value: object) -> str:
    return repr(value)[:80]


def call_native(function: Any, *arguments: Any) -> Any:
    """What the kernels refuse, as an error of the data."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise DataError(str(error)) from None
