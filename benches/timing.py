"""Time several things in turn, so that what slows the machine slows them all; in this process or in one of their own.

`alone/` holds the scripts that run in processes of their own: there `serve` answers what `Process.ask` wants to know.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BENCHES = Path(__file__).resolve().parent
SLOT_S = 0.1  # a quick call is repeated within a round until it has had this long
MOST_REPEATS = 10
MARK = "measured "  # other libraries print to stdout as they like


def seconds(call: Callable[[], Any]) -> float:
    """How long one call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def warmed(timer: Callable[[], float]) -> float:
    """What a timer returns once it is warm; a slow one is not called again."""
    first = timer()
    return timer() if first < SLOT_S else first


def medians(timers: dict[str, Callable[[], float]], rounds: int = 5) -> dict[str, float]:
    """Median of what each timer returns, over rounds in which all take their turn; quick ones are repeated."""
    warm = {name: warmed(timer) for name, timer in timers.items()}
    repeats = {name: min(max(int(SLOT_S / warm[name]), 1), MOST_REPEATS) for name in timers}
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            taken[name] += [timer() for _ in range(repeats[name])]
    return {name: statistics.median(values) for name, values in taken.items()}


class Process:
    """A script of `alone/` in a process of its own, with as many threads as this one.

    Importing some libraries before torch leaves torch on one thread, so the number is given twice: here and in `serve`.
    """

    def __init__(self, script: str, *arguments: object, **environment: str) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        threads = str(torch.get_num_threads())
        self.child = subprocess.Popen(
            [sys.executable, str(BENCHES / "alone" / f"{script}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.scratch.name,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(BENCHES), os.environ.get("PYTHONPATH")))),
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "YOLO_CONFIG_DIR": self.scratch.name,
                "YOLO_OFFLINE": "true",
                "YOLO_AUTOINSTALL": "false",
                **environment,
            },
        )

    def ask(self, question: str = "") -> Any:
        """What the script measured."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{question}\n")
        self.child.stdin.flush()
        for line in self.child.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"{' '.join(map(str, self.child.args))} ended with status {self.child.wait()}")

    def close(self) -> None:
        """End the process."""
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
        self.scratch.cleanup()


@contextlib.contextmanager
def processes(*made: Process) -> Iterator[tuple[Process, ...]]:
    """Processes that end with the block."""
    try:
        yield made
    finally:
        for process in made:
            process.close()


def serve(answer: Callable[[str], Any]) -> None:
    """Answer every line of stdin, in a process of its own."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for line in sys.stdin:
        print(MARK + json.dumps(answer(line.strip())), flush=True)
