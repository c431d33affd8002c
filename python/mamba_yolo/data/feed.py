"""Batches of a native stream as tensors: in the stream's own memory, or in page-locked memory that is lent to it.

A GPU copies from page-locked memory while the CPU goes on. Threads write straight into blocks of torch's own pool,
which hands a block out again when nobody holds it and no copy reads from it. Test: `tests/data/test_loader_order.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from mamba_yolo.errors import ImageError

Block = Callable[[int], torch.Tensor]

AHEAD = 4  # one batch in hand, two that wait, one that does not fit into the queue


class Feed:
    """A stream and the blocks that are lent to it, in order.

    Args:
        stream: native stream; started with `lends` where blocks are lent.
        block: makes the flat tensor for one batch of so many values; None: the stream has memory of its own.
    """

    def __init__(self, stream: Any, block: Block | None) -> None:
        self._stream, self._block = stream, block
        self._lent: deque[torch.Tensor] = deque()
        for _ in range(AHEAD if block else 0):
            self._lend()

    def _lend(self) -> None:
        assert self._block is not None
        block = self._block(self._stream.most_values())
        self._stream.lend(block.numpy())
        self._lent.append(block)

    def next(self) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """Images (B, 3, H, W) of the next batch, and all its arrays.

        Raises:
            ImageError: a file that cannot be read any more.
        """
        try:
            arrays = self._stream.next()
        except OSError as error:
            raise ImageError(str(error)) from None
        if not self._lent:
            return torch.from_numpy(arrays[0]), arrays
        block = self._lent.popleft()
        self._lend()
        return block[: arrays[0].size].view(arrays[0].shape), arrays

    def stop(self) -> None:
        """Stop the threads."""
        self._stream.stop()
