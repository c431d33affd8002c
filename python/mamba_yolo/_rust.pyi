"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous.

Legend: B images or batch, N boxes, A anchors, nc classes.
"""

import os
from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = [
    "DEBUG_BUILD",
    "SCAN_GROUP_BYTES",
    "SCAN_TILE",
    "VERSION",
    "BatchStream",
    "Pipeline",
    "cpu_level",
    "decode_bytes",
    "decode_file",
    "files_below",
    "image_sizes",
    "letterbox",
    "nms_boxes",
    "nms_head",
    "scan_backward",
    "scan_forward",
    "scan_labels",
    "thread_owner",
]

DEBUG_BUILD: bool
VERSION: str
SCAN_TILE: int
SCAN_GROUP_BYTES: int

def cpu_level() -> str:
    """Vector level of the kernels: scalar, portable, avx2, avx512 or neon."""

def thread_owner() -> str:
    """Whose threads the kernels run on: "torch" for its OpenMP team, or "own pool"."""

def nms_boxes(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64] | None,
    iou_thr: float,
    max_det: int,
    kind: str,
) -> npt.NDArray[np.int64]:
    """Indices kept of boxes (N, 4), scores (N,), classes (N,); see ops/nms.py."""

def nms_head(
    pred: npt.NDArray[np.float32],
    *,
    conf_thr: float,
    iou_thr: float,
    multi_label: bool,
    agnostic: bool,
    max_det: int,
    num_classes: int,
    classes: Sequence[int] | None,
    threads: int,
) -> list[npt.NDArray[np.float32]]:
    """Final rows of every image of pred (B, 4 + nc + extra, A); see ops/nms.py."""

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

def scan_labels(
    pictures: Sequence[tuple[str, str]], classes: Sequence[int] | None, keep: str | None, num_threads: int
) -> tuple[
    list[tuple[int, int]],
    list[tuple[int, str]],
    list[int],
    tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], list[int], npt.NDArray[np.float32]],
    list[int],
    int,
    bool,
]:
    """Headers and label files of (picture, label file) pairs; see data/labels.py."""

@final
class Pipeline:
    """A data set ready to be loaded: (files, (height, width) each, (N, 4) float32 corners, (N,) classes, offsets)."""

    def __new__(
        cls,
        rows: tuple[
            Sequence[str | os.PathLike[str]],
            Sequence[tuple[int, int]],
            npt.NDArray[np.float32],
            npt.NDArray[np.int64],
            Sequence[int],
        ],
        side: int,
        batch_size: int,
        *,
        kind: str,
        keep: str | os.PathLike[str] | None,
        as_floats: bool,
        skip: bool,
        shard: tuple[int, int],
    ) -> Pipeline:
        """kind: train, square, rect; keep: None, "ram" or a cache file; shard: (rank, world size)."""
    def start(self, seed: int, epoch: int, first: int, ranges: Sequence[float] | None, threads: int) -> BatchStream:
        """Start filling batches from position `first`; `ranges` are the eight numbers of AugmentConfig in its order."""
    def skipped(self) -> list[tuple[int, str]]:
        """(sample, reason) of each picture that could not be read and was skipped."""
    def num_decoded(self) -> int:
        """How many pictures were decoded so far."""

@final
class BatchStream:
    """The batches of one epoch, in order."""

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
        ]
        | None
    ):
        """images, boxes_cxcywh_norm, classes, batch_index, sample_index, letterbox; None at the end."""

    def stop(self) -> None:
        """Stop the threads."""
