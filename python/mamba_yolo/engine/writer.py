"""Checkpoints written beside the training: copied at once, brought to the disk by a thread while the next epoch runs.

One set of files at a time, in the order given, so that a kill at any moment leaves what a kill of a writing program
would have left. What went wrong in the thread is raised by the next `put` or `wait`. Test: tests/engine/test_writer.py.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mamba_yolo.engine.checkpoint import Checkpoint, Snapshot, snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Writer:
    """Brings checkpoints to the disk, one set after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._running: Future[None] | None = None

    def put(self, files: Sequence[tuple[Path, Checkpoint]]) -> None:
        """Copy these checkpoints and begin to write them, once the ones before are on the disk.

        Raises:
            SaveError: the ones before could not be written.
        """
        ready = [(path, snapshot(checkpoint)) for path, checkpoint in files]
        self.wait()
        self._running = self._thread.submit(_write, ready)

    def wait(self) -> None:
        """Return when everything is on the disk.

        Raises:
            SaveError: something could not be written; said once.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()


def _write(ready: Sequence[tuple[Path, Snapshot]]) -> None:
    for path, content in ready:
        content.write(path)
