"""Available memory from made-up /proc and /sys trees."""

from __future__ import annotations

import pytest

from mamba_yolo.data import space
from mamba_yolo.errors import ConfigError

GB = 10**9


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))


def test_the_system_alone(tmp_path):
    assert space.available_memory(tmp_path) is None
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  5000000 kB\n"})
    assert space.available_memory(tmp_path) == 5_120_000_000


def test_version_2_looks_at_every_group_above(tmp_path):
    write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 50000000 kB\n",
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/inner/memory.max": "max",
            "sys/fs/cgroup/outer/inner/memory.current": GB,
            "sys/fs/cgroup/outer/memory.max": 4 * GB,
            "sys/fs/cgroup/outer/memory.current": 3 * GB,
            "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {GB // 2}\n",
        },
    )
    assert space.available_memory(tmp_path) == GB + GB // 2


def test_version_1_in_a_container(tmp_path):
    write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 50000000 kB\n",
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GB,
        },
    )
    assert space.available_memory(tmp_path) == GB
    write(tmp_path, {"sys/fs/cgroup/memory/memory.usage_in_bytes": 3 * GB})
    assert space.available_memory(tmp_path) == 0


def test_shares(tmp_path):
    space.check_ram(GB, 2 * GB)
    space.check_ram(GB, None)
    with pytest.raises(ConfigError, match=r"needs 1\.00 GB and may take 50% of the 1\.90 GB"):
        space.check_ram(GB, 19 * GB // 10)
    space.check_disk(1, tmp_path)
    with pytest.raises(ConfigError, match="free in"):
        space.check_disk(1 << 60, tmp_path)
