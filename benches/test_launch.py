"""What launching a CUDA kernel costs the host, without a GPU: the driver is the tests' own, which does nothing.

Run: `pytest benches/test_launch.py --benchmark-only -s`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from timing import Process, processes

ROOT = Path(__file__).resolve().parent.parent
PEER = "ctypes, packed before"
ROUNDS = 200
KERNEL = 'extern "C" __global__ void nothing(int a) {}\n'
HOST = 'extern "C" int nothing(const void*, unsigned, void*) { return 0; }\n'


@pytest.mark.skipif(sys.platform != "linux", reason="the fake driver is a Linux library")
def test_launch(benchmark, figure, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests")
    from kernels.building import FOLDER, compile_shared, load_builder

    (tmp_path / "nothing.cu").write_text(KERNEL)
    load_builder().build(tmp_path, tmp_path / "kernels.zip")
    (tmp_path / "nothing.cpp").write_text(HOST)
    kernels = compile_shared(tmp_path / "nothing.so", tmp_path / "nothing.cpp")
    compile_shared(tmp_path / "libcuda.so.1", FOLDER / "fake_driver.cpp")
    path = os.pathsep.join([str(tmp_path), os.environ.get("LD_LIBRARY_PATH", "")])
    child = Process("launch", tmp_path / "kernels.zip", LD_LIBRARY_PATH=path, FAKE_KERNELS=str(kernels))
    with processes(child) as (process,):
        # The fastest of many: other processes on the same cores only ever add to a call that never waits.
        rounds = [(process.ask("ours"), process.ask(PEER)) for _ in range(ROUNDS)]
        ours, peer = (min(taken) * 1e6 for taken in zip(*rounds, strict=True))
        figure("launch of a kernel with 23 fields", ours, {PEER: peer}, unit="us")
        benchmark.pedantic(process.ask, ("ours",), rounds=5)
