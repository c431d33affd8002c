"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous numpy arrays."""

import os
from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEBUG_BUILD",
    "VERSION",
    "BatchStream",
    "Pipeline",
    "decode_bytes",
    "decode_file",
    "image_sizes",
    "letterbox",
]

DEBUG_BUILD: bool
VERSION: str

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

@final
class Pipeline:
    """A data set ready to be loaded: files, (N, 4) float32 corners, (N,) int64 classes, offsets per file."""

    def __new__(
        cls,
        paths: Sequence[str | os.PathLike[str]],
        boxes: npt.NDArray[np.float32],
        classes: npt.NDArray[np.int64],
        offsets: Sequence[int],
        side: int,
        batch_size: int,
    ) -> Pipeline: ...
    def start(self, seed: int, epoch: int, first: int, ranges: Sequence[float] | None, threads: int) -> BatchStream:
        """Start filling batches from position `first`; `ranges` are the eight numbers of AugmentConfig in its order."""

@final
class BatchStream:
    """The batches of one epoch, in order."""

    def next(
        self,
    ) -> (
        tuple[
            npt.NDArray[np.uint8],
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
