"""How much room there is for decoded pictures: memory by the system and every cgroup above this process, disk space.

Caches take at most `SHARE` of it. Sources: proc(5); "Control Group v2" and "cgroup-v1/memory" of the kernel's
documentation. Test: `tests/data/test_space.py` with made-up trees.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.5  # of what is available when the loader is made


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be allocated without swapping or being killed; None where the system does not say."""
    rooms = [room for room in (_system(root), *_cgroups(root)) if room is not None]
    return min(rooms, default=None)


def check_ram(needed: int, available: int | None) -> None:
    """Refuse a cache in memory that would take more than its share.

    Raises:
        ConfigError: says how much it needs and what there is.
    """
    if available is not None and needed > SHARE * available:
        raise ConfigError(
            f"cache='ram' needs {needed / 1e9:.2f} GB and may take {SHARE:.0%} of the {available / 1e9:.2f} GB of "
            "memory that is available; use cache='disk' or cache=False"
        )


def check_disk(needed: int, folder: Path) -> None:
    """Refuse a cache file that would take more than its share of the disk.

    Raises:
        ConfigError: says how much it needs and what there is.
    """
    free = shutil.disk_usage(folder).free
    if needed > SHARE * free:
        raise ConfigError(
            f"cache='disk' needs {needed / 1e9:.2f} GB and may take {SHARE:.0%} of the {free / 1e9:.2f} GB free in "
            f"{folder}; set MAMBA_YOLO_CACHE to a folder with more room"
        )


def _system(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    if root == Path("/") and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _cgroups(root: Path) -> Iterator[int | None]:
    """Room in this process's cgroup and in each above it, for both versions."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        folder = top / path.strip().lstrip("/")
        # In a container the path may be the host's; the group's own files then lie at the top.
        folder = folder if folder.is_dir() else top
        for group in (folder, *folder.parents):
            yield _room(group, *names)
            if group == top:
                break


def _room(group: Path, limit: str, usage: str, inactive: str) -> int | None:
    """The limit less what is used, not counting file pages that the kernel drops when it needs memory."""
    try:
        stated, used = int((group / limit).read_text()), int((group / usage).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    statistics = dict(line.split(maxsplit=1) for line in _lines(group / "memory.stat"))
    return max(stated - used + int(statistics.get(inactive, 0)), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
