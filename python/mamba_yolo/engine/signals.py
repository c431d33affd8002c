"""Ctrl-C where several processes train: torchrun's agent has handlers of its own, and repeats what the terminal sent.

Test: tests/engine/test_signals.py, tests/engine/test_launch.py.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def restored_signals() -> Iterator[None]:
    """Put back the handlers that an agent leaves behind."""
    if not _may_handle():
        yield
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Hear only the first Ctrl-C: a process that ends has files to finish and a word to say."""
    if not _may_handle():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt_once)
    yield
    signal.signal(signal.SIGINT, before)  # not after an interrupt: the second may still be on its way


def _interrupt_once(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _may_handle() -> bool:
    """Whether this is the thread that signals reach."""
    return threading.current_thread() is threading.main_thread()
