"""Benches refuse debug builds, say what machine they ran on, and time a peer in the same run."""

import os
import platform
import time

import pytest
import torch

from mamba_yolo._rust import DEBUG_BUILD, VERSION  # noqa: TID251  (a bench names what it measures)
from mamba_yolo.ops.dispatch import cpu_level


def pytest_sessionstart():
    if DEBUG_BUILD:
        pytest.exit("this is a debug build of the native module; run `make build` first", returncode=2)


def pytest_report_header():
    return (
        f"mamba-yolo {VERSION}, torch {torch.__version__}, {platform.machine()} level {cpu_level()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}"
    )


@pytest.fixture
def beside(benchmark):
    """Times ours through pytest-benchmark and each peer in turn with it; prints medians and ratios."""

    def run(what, ours, peers, rounds=5):
        calls = {"ours": ours, **peers}
        times = {name: [] for name in calls}
        for call in calls.values():
            call()  # warm
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        median = {name: sorted(t)[len(t) // 2] for name, t in times.items()}
        ratios = ", ".join(
            f"{name} {median[name] * 1e3:.2f} ms ({median[name] / median['ours']:.1f}x)" for name in peers
        )
        print(f"\n{what}: {median['ours'] * 1e3:.2f} ms; {ratios}")
        benchmark.extra_info.update({name: median[name] for name in calls})
        benchmark.pedantic(ours, rounds=rounds)

    return run
