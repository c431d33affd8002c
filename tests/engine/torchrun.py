"""Starts a script of this folder in several processes, and never waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LIMIT_S = 100  # ten times what a quiet machine needs


class Ended(NamedTuple):
    """How a command ended, and all it said."""

    code: int
    text: str


def torchrun(script, *words, count=2, restarts=0):
    """Run `script words…` in `count` gloo processes, as a user of torchrun does."""
    agent = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", f"--max-restarts={restarts}"]
    return python(*agent, str(HERE / script), *map(str, words))


def python(*words, interrupt_at=None):
    """Run Python in a session of its own; `interrupt_at`: send Ctrl-C to all its processes once this text appears."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=environment,
    )  # fmt: skip
    said = []
    try:
        while interrupt_at:
            said.append(process.stdout.readline())
            assert said[-1], f"ended without {interrupt_at!r}: {''.join(said)}"
            if interrupt_at in said[-1]:
                os.killpg(process.pid, signal.SIGINT)
                break
        said.append(process.communicate(timeout=LIMIT_S)[0])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Ended(process.returncode, "".join(said))
