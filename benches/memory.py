"""What a process and its children have allocated: heaps and shared memory, without the files of libraries.

A page that n of them share counts for one n-th (PSS of Linux); a library's would be shared with strangers as well.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.02
ALLOCATED = ("Pss_Anon:", "Pss_Shmem:")
AVAILABLE = Path("/proc/self/smaps_rollup").exists()


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in children(task)]
    except FileNotFoundError:
        return []
    return [pid, *(found for child in below for found in tree(child))]


def children(task: Path) -> list[str]:
    """Process numbers, as text."""
    return (task / "children").read_text().split()


def allocated_mib(pid: int) -> float:
    """By the whole tree, in MiB."""
    total_kib = 0
    for each in tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        total_kib += sum(int(line.split()[1]) for line in lines if line.startswith(ALLOCATED))
    return total_kib / 2**10


def peak_mib(pid: int, call: Callable[[], object]) -> float:
    """The most that the tree had during a call, looked at every 20 ms."""
    seen, ended = [allocated_mib(pid)], threading.Event()

    def look() -> None:
        while not ended.wait(EVERY_S):
            seen.append(allocated_mib(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        call()
    finally:
        ended.set()
        watcher.join()
    return max(seen)
