"""Benches refuse debug builds, say what machine they ran on, and end with one table of ours beside the best peer."""

import functools
import os
import platform
from pathlib import Path

import pytest
import torch

import peers
from mamba_yolo._rust import DEBUG_BUILD, VERSION  # noqa: TID251  (a bench names what it measures)
from mamba_yolo.ops.dispatch import cpu_level
from photos import copies
from timing import medians, seconds

ROWS: list[str] = []
TABLE_HEAD = "| what | ours | best peer | peer / ours | ours / peer | other peers |\n|---|---|---|---|---|---|"


def pytest_sessionstart():
    if DEBUG_BUILD:
        pytest.exit("this is a debug build of the native module; run `make build` first", returncode=2)


def pytest_report_header():
    return [machine(), peers.describe()]


def pytest_terminal_summary(terminalreporter):
    if ROWS:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join([f"Machine: {machine()}.", peers.describe(), "", TABLE_HEAD, *ROWS]))


def machine():
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return (
        f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, level {cpu_level()}, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"mamba-yolo {VERSION}"
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """The data file of 1024 pictures."""
    return copies(tmp_path_factory.mktemp("photos") / "set")


@pytest.fixture(scope="session")
def few_photos(tmp_path_factory):
    """The data file of 128 pictures."""
    return copies(tmp_path_factory.mktemp("few") / "set", 1)


@pytest.fixture
def figure(benchmark):
    """Writes one row of the table: ours beside the best peer; every number is kept with the benchmark."""

    def add(what, ours, others=None, unit="ms", work=None):
        """Values in `unit` (smaller is better); with `work` also nanoseconds per unit of it, for milliseconds."""
        others = others or {}
        benchmark.extra_info[what] = {"ours": ours, **others, "unit": unit}
        said = f"{ours:.4g} {unit}" + (f", {ours * 1e6 / work:.3f} ns each" if work else "")
        print(
            f"\n{what}: {said}", *(f"{name} {v:.4g} {unit} ({v / ours:.2f}x)" for name, v in others.items()), sep="; "
        )
        if not others:
            ROWS.append(f"| {what} | {said} | | | | |")
            return
        (name, best), *slower = sorted(others.items(), key=lambda item: item[1])
        rest = ", ".join(f"{name}: {value:.4g} {unit} ({value / ours:.2f})" for name, value in slower)
        ROWS.append(f"| {what} | {said} | {name}: {best:.4g} {unit} | {best / ours:.2f} | {ours / best:.2f} | {rest} |")

    return add


@pytest.fixture
def beside(benchmark, figure):
    """Times ours and its peers in turn, all functions without arguments, and adds the row."""

    def run(what, ours, others, rounds=5):
        timers = {"ours": ours, **others}
        found = medians({name: functools.partial(seconds, call) for name, call in timers.items()}, rounds)
        figure(what, found.pop("ours") * 1e3, {name: value * 1e3 for name, value in found.items()})
        if benchmark.stats is None:  # it keeps one
            benchmark.pedantic(ours, rounds=rounds)

    return run
