"""Ctrl-C is heard once by a process of several, and handlers are put back."""

from __future__ import annotations

import signal
import threading

import pytest

from mamba_yolo.engine.signals import one_interrupt, restored_signals


@pytest.fixture(autouse=True)
def _own_handler():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_interrupt_is_not_heard():
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # what the agent repeats, while the process ends


def test_without_an_interrupt_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with one_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_left_behind_are_taken_away():
    before = signal.getsignal(signal.SIGINT)
    with restored_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_signals():
    entered = []

    def enter():
        with one_interrupt(), restored_signals():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered
