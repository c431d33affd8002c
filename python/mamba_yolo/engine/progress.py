"""What a command says while it works: a rich bar in a terminal, one plain line per phase elsewhere.

Everything goes to standard error, so that standard output belongs to results. Test: tests/engine/test_progress.py.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

Item = TypeVar("Item")
BYTES_PER_GIB = 2**30


class Bar:
    """One phase of work: counts steps and images, carries a note such as the losses."""

    def __init__(self, description: str, total: int | None, progress: Progress | None) -> None:
        self.description = description
        self.note = ""
        self.steps = 0
        self.images = 0
        self._start = time.perf_counter()
        self._progress = progress
        if progress is not None:
            self._task = progress.add_task(description, total=total, note="", rate="")

    def advance(self, images: int = 0, note: str = "") -> None:
        """One step done, with so many images."""
        self.steps += 1
        self.images += images
        self.note = note
        if self._progress is not None:
            self._progress.update(self._task, advance=1, note=note, rate=self.rate())

    def rate(self) -> str:
        """Steps and images per second so far."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        images = f", {self.images / seconds:.1f} img/s" if self.images else ""
        return f"{self.steps / seconds:.2f} it/s{images}"

    def line(self) -> str:
        """The whole phase in one line."""
        seconds = time.perf_counter() - self._start
        return "  ".join(
            filter(None, [self.description, f"{self.steps} it in {seconds:.1f} s", self.rate(), self.note])
        )


class Reporter:
    """The one voice of train, val, predict and convert.

    Args:
        console: where to write; standard error if left out.
        quiet: say nothing at all.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str) -> None:
        """One line, as it is."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, description: str, total: int | None = None) -> Iterator[Bar]:
        """Show a phase while it runs: a moving bar in a terminal, else one line at the end."""
        if not self.console.is_terminal:
            bar = Bar(description, total, None)
            yield bar
            self.say(bar.line())
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Bar(description, total, progress)

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Yield items under a bar."""
        with self.bar(description, total) as bar:
            for item in items:
                yield item
                bar.advance()


def memory_note(device: torch.device) -> str:
    """Peak memory: of the GPU that is used, else of this process."""
    if device.type == "cuda":
        import torch

        return f"{torch.cuda.max_memory_allocated(device) / BYTES_PER_GIB:.2f} GiB GPU"
    try:
        import resource
    except ImportError:  # not on Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / BYTES_PER_GIB:.2f} GiB"
