"""Attempts in a child process, which may crash, hang or eat memory; every attempt depends on its seed alone.

A target is a module with `attempt(rng)`, which raises when the package broke its contract.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import random
import resource
import signal
import time
import traceback

TARGETS = ["decode", "labels", "rle", "nms", "checkpoint"]
MAX_CPU_SECONDS = 2.0
MAX_WALL_SECONDS = 60.0
MAX_BYTES = 1 << 30
_SEED, _COUNT = 0, 1


def fuzz(module, seconds, first):
    """(what was found and with which seed, or None; attempts) of a target in `seconds`."""
    context = multiprocessing.get_context("spawn")
    progress = context.Array("q", [first, 0], lock=False)
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(module, seconds, first, progress, writer), daemon=True)
    child.start()
    writer.close()
    seen, since = None, time.monotonic()
    while child.is_alive():
        child.join(0.2)
        if seen != progress[_COUNT]:
            seen, since = progress[_COUNT], time.monotonic()
        if time.monotonic() - since > MAX_WALL_SECONDS:
            child.kill()
    child.join()
    try:
        finding = reader.recv()
    except EOFError:  # it died without a word
        finding = _death(child.exitcode)
    if finding:
        finding = f"{finding}\n  again: python -m fuzz 0 {module.rpartition('.')[2]} --first {progress[_SEED]}"
    return finding, progress[_COUNT]


def _death(exit_code):
    if exit_code == -signal.SIGPROF:
        return f"took more than {MAX_CPU_SECONDS} s"
    if exit_code == -signal.SIGKILL:
        return f"hung for {MAX_WALL_SECONDS} s, or was killed for its memory"
    return f"the process ended with {exit_code}"


def _run(module, seconds, first, progress, answer):
    """Work through the seeds; the finding or None goes into the pipe."""
    attempt = importlib.import_module(module).attempt
    attempt(random.Random(0))  # what is loaded lazily is loaded
    used = _peak_bytes()
    limit = _virtual_bytes() + 4 * MAX_BYTES  # the machine must survive
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    end = time.monotonic() + seconds
    for seed in itertools.count(first):
        progress[_SEED], progress[_COUNT] = seed, progress[_COUNT] + 1
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_SECONDS)  # its signal ends the process, in foreign code too
        try:
            attempt(random.Random(seed))
        except BaseException:  # noqa: BLE001  a panic is no Exception
            answer.send(traceback.format_exc())
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        if _peak_bytes() > used + MAX_BYTES:
            answer.send(f"took more than {MAX_BYTES} bytes")
            return
        if time.monotonic() >= end:
            answer.send(None)
            return


def _peak_bytes():
    """Most memory so far; `getrusage` would give the parent's, which outlives the start of another program."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024


def _virtual_bytes():
    with open("/proc/self/statm") as pages:  # noqa: PTH123
        return int(pages.read().split()[0]) * resource.getpagesize()
