"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous.

Legend: B images or batch, N boxes, A anchors, nc classes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = [
    "DEBUG_BUILD",
    "MAX_MASK_PIXELS",
    "SCAN_GROUP_BYTES",
    "SCAN_TILE",
    "VERSION",
    "BatchStream",
    "Pipeline",
    "cpu_level",
    "decode_bytes",
    "decode_file",
    "decode_rle",
    "decode_rle_part",
    "depthwise_backward",
    "depthwise_forward",
    "encode_rle",
    "files_below",
    "fill_polygons",
    "fuse_boxes",
    "image_sizes",
    "instance_masks",
    "instance_rles",
    "label_file",
    "letterbox",
    "merge_rle",
    "nms_boxes",
    "nms_head",
    "nms_turned",
    "norm_backward",
    "norm_forward",
    "polygons_from_rle",
    "rle_area",
    "rle_bounds",
    "rle_from_polygon",
    "rle_outline",
    "scan_backward",
    "scan_forward",
    "scan_labels",
    "thread_owner",
]

DEBUG_BUILD: bool
MAX_MASK_PIXELS: int
VERSION: str
SCAN_TILE: int
SCAN_GROUP_BYTES: int

def cpu_level() -> str:
    """Vector level of the kernels: scalar, portable, avx2, avx512 or neon."""

def thread_owner() -> str:
    """Whose threads the kernels run on: "torch" for its OpenMP team, or "own pool"."""

def nms_boxes(boxes: tuple[Tensor, Tensor, Tensor | None], kept: Tensor, iou_thr: float, kind: str) -> int:
    """Fill the front of kept, int64, with indices of boxes (N, 4), scores (N,), classes (N,); how many."""

def nms_turned(boxes: tuple[Tensor, Tensor, Tensor | None], kept: Tensor, iou_thr: float, kind: str) -> int:
    """The same for boxes (N, 5): centre, size, angle."""

def fuse_boxes(
    boxes: tuple[Tensor, Tensor, Tensor | None],
    fused: tuple[Tensor, Tensor, Tensor],
    iou_thr: float,
    num_models: int,
) -> int:
    """Fill the front of fused boxes (N, 4), scores (N,) and best members (N,); how many."""

def nms_head(
    pred: Tensor,
    rows: Tensor,
    counts: Tensor,
    sizes: tuple[int, int, int],
    options: tuple[float, float, bool, bool, bool, int, Sequence[int] | None],
    threads: int,
) -> None:
    """Fill rows (B, M, 6 + extra) and counts (B,) from pred; sizes are its channels, anchors and classes.

    Options: conf_thr, iou_thr, multi_label, agnostic, compat, max_det, classes; see ops/nms_op.py.
    """

def encode_rle(height: int, width: int, columns: Tensor) -> str:
    """Text form of a mask (W, H), which is one (H, W) column by column."""

def decode_rle(runs: tuple[int, int, str | Sequence[int]], columns: Tensor) -> None:
    """Fill a mask (W, H) from height, width and runs."""

def rle_area(runs: tuple[int, int, str | Sequence[int]]) -> int:
    """Pixels inside."""

def rle_bounds(runs: tuple[int, int, str | Sequence[int]]) -> list[int] | None:
    """Left, top, right and bottom of the pixels inside; None without any."""

def decode_rle_part(runs: tuple[int, int, str | Sequence[int]], bounds: Sequence[int], columns: Tensor) -> None:
    """Fill a part of a mask (w, h), within left, top, right and bottom."""

def rle_outline(runs: tuple[int, int, str | Sequence[int]]) -> list[list[int]]:
    """Corners x, y of the outline of the largest part."""

def merge_rle(masks: Sequence[tuple[int, int, str | Sequence[int]]], intersect: bool) -> str:
    """Text form of the union or the intersection."""

def rle_from_polygon(polygon: Tensor, height: int, width: int) -> str:
    """Text form of a polygon (k, 2), float64."""

def polygons_from_rle(runs: tuple[int, int, str | Sequence[int]]) -> list[npt.NDArray[np.float32]]:
    """Polygons (k, 2) of the parts of a mask, holes cut open; see ops/rings.py."""

def fill_polygons(
    objects: Sequence[Sequence[Tensor]], scale: float, size: tuple[int, int], filled: Tensor, threads: int
) -> None:
    """Fill masks (n, H, W), which are zero, with the union of each object's polygons (k, 2), scaled."""

def instance_masks(
    objects: tuple[Tensor, Tensor, Tensor],
    placing: tuple[tuple[int, int, int], tuple[int, int], tuple[float, float, float]],
    filled: Tensor,
    threads: int,
) -> None:
    """Fill masks (n, H, W), which are zero, with 1 inside objects.

    Objects are coefs (n, C), protos (C, Hp, Wp), boxes (n, 4); placing is (C, Hp, Wp), (H, W), (gain, left, top).
    """

def instance_rles(
    objects: tuple[Tensor, Tensor, Tensor],
    placing: tuple[tuple[int, int, int], tuple[int, int], tuple[float, float, float]],
    threads: int,
) -> list[str]:
    """Text forms of the masks of objects; arguments as instance_masks."""

def depthwise_forward(
    inputs: tuple[tuple[Tensor, int], Tensor, Tensor, tuple[Tensor, int] | None],
    y: Tensor,
    options: tuple[tuple[int, int, int, int], bool, int],
) -> None:
    """Fill y; options are sizes (B, H, W, D), residual, threads.

    Contiguous CPU tensors, all float32 or all float64, x and gate with the stride of tokens; see ops/fused_op.py.
    """

def depthwise_backward(
    inputs: tuple[tuple[Tensor, int], Tensor, Tensor, tuple[Tensor, int] | None],
    dy: tuple[Tensor, int],
    gradients: tuple[Tensor, Tensor, Tensor, Tensor | None],
    options: tuple[tuple[int, int, int, int], bool, int],
) -> None:
    """Fill the gradient of every input; as depthwise_forward."""

def norm_forward(
    inputs: tuple[tuple[Tensor, int], Tensor, Tensor, tuple[Tensor, int]],
    y: Tensor,
    options: tuple[tuple[int, int], float, int],
) -> None:
    """Fill y; options are tokens and channels, eps, threads; as depthwise_forward."""

def norm_backward(
    inputs: tuple[tuple[Tensor, int], Tensor, Tensor, tuple[Tensor, int]],
    dy: tuple[Tensor, int],
    gradients: tuple[Tensor, Tensor, Tensor, Tensor],
    options: tuple[tuple[int, int], float, int],
) -> None:
    """Fill the gradient of every input; as norm_forward."""

def scan_forward(
    inputs: tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor],
    y: Tensor,
    checkpoints: Tensor | None,
    options: tuple[tuple[int, int, int, int, int], tuple[int, int] | None, bool, int],
) -> None:
    """Fill y and the checkpoints; options are sizes (B, L, D, N, R), grid (H, W) or None, softplus, threads.

    Contiguous CPU tensors, all float32 or all float64; see ops/scan_op.py.
    """

def scan_backward(
    inputs: tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    checkpoints: Tensor,
    gradients: tuple[Tensor | None, ...],
    options: tuple[tuple[int, int, int, int, int], tuple[int, int] | None, bool, int],
) -> None:
    """Fill the gradient of every input; as scan_forward."""

def decode_file(path: str | os.PathLike[str], apply_exif: bool, strict: bool) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of a file; OSError names the file and the reason."""

def decode_bytes(data: bytes, apply_exif: bool, strict: bool) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of a file's bytes; OSError says the reason."""

def image_sizes(paths: Sequence[str | os.PathLike[str]], num_threads: int) -> list[tuple[int, int, str | None]]:
    """(height, width, None) of each upright picture from its header, or (0, 0, reason)."""

def letterbox(
    pixels: npt.NDArray[np.uint8], height: int, width: int, scale_up: bool
) -> tuple[npt.NDArray[np.uint8], float, int, int]:
    """(3, height, width) planes of an (H, W, 3) picture, gain, left and top padding."""

def files_below(folder: str | os.PathLike[str], suffixes: Sequence[str]) -> list[str]:
    """Entries below a folder whose names have one of the suffixes (lower case, with the dot)."""

def label_file(picture: str | os.PathLike[str]) -> Path:
    """Where the labels of a picture lie."""

def scan_labels(
    pictures: Sequence[str], classes: Sequence[int] | None, keep: Path | None, num_threads: int
) -> tuple[
    tuple[list[str], list[tuple[int, int]], list[int]],
    tuple[list[tuple[int, str]], list[tuple[int, str]], list[tuple[int, int]], list[str], Path | None],
    tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.uint32], npt.NDArray[np.float32]],
    int,
]:
    """Headers and label files of pictures; see data/labels.py."""

@final
class Pipeline:
    """A data set ready to be loaded.

    Rows are files, (height, width) each, (N, 4) float32 corners, (N,) int64 classes, offsets per file, and outlines:
    these are (P, 2) float32 points, offsets of polygons among points, offsets of boxes among polygons.
    """

    def __new__(
        cls,
        rows: tuple[
            Sequence[str | os.PathLike[str]],
            Sequence[tuple[int, int]],
            npt.NDArray[np.float32],
            npt.NDArray[np.int64],
            Sequence[int],
            tuple[npt.NDArray[np.float32], Sequence[int], Sequence[int]],
        ],
        side: int,
        batch_size: int,
        *,
        kind: str,
        partners: str,
        keep: str | os.PathLike[str] | None,
        as_floats: bool,
        masks: bool,
        skip: bool,
        shard: tuple[int, int],
    ) -> Pipeline:
        """kind: train, square, rect; partners: recent, uniform; keep: None, "ram" or a file; shard: (rank, ranks)."""
    def start(
        self,
        seed: int,
        at: tuple[int, int],
        ranges: Sequence[float] | None,
        close_epoch: int | None,
        threads: int,
        *,
        lends: bool,
    ) -> BatchStream:
        """Start filling batches at (epoch, position); `ranges` are the 15 numbers of AugmentConfig in its order.

        In training it goes on into the epochs after that; from `close_epoch` on pictures are not joined with others.
        Where the consumer `lends`, each batch waits for a slot.
        """
    def skipped(self) -> list[tuple[int, str]]:
        """(sample, reason) of each picture that could not be read and was skipped."""
    def num_decoded(self) -> int:
        """How many pictures were decoded so far."""

@final
class BatchStream:
    """The batches of one epoch after the other, in order."""

    def next(
        self,
    ) -> (
        tuple[
            npt.NDArray[np.uint8] | npt.NDArray[np.float32],
            npt.NDArray[np.float32],
            npt.NDArray[np.int64],
            npt.NDArray[np.int64],
            npt.NDArray[np.int64],
            npt.NDArray[np.float32],
            tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]],
            npt.NDArray[np.uint8] | None,
        ]
        | None
    ):
        """images, boxes_cxcywh_norm, classes, batch_index, sample_index, letterbox, outlines, (N, 1, H/4, W/4) masks.

        None at the end.
        """

    def most_values(self) -> int:
        """What the largest batch holds."""
    def lend(self, slot: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
        """Hand in a flat array that one batch is written to; nobody else may use it until that batch came."""
    def stop(self) -> None:
        """Stop the threads."""
