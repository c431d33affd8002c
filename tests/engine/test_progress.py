"""Progress goes to standard error; plain lines where nobody looks at a terminal."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from mamba_yolo.engine.progress import Reporter, memory_note


def test_plain_line_per_phase(capsys):
    reporter = Reporter()
    with reporter.bar("epoch 1/3", 2) as bar:
        bar.advance(images=4, note="box 1.000")
        bar.advance(images=4, note="box 0.500")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("epoch 1/3  2 it in ")
    assert "img/s" in captured.err
    assert "box 0.500" in captured.err
    assert "box 1.000" not in captured.err


def test_terminal_shows_a_bar():
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=True, width=120))
    assert list(reporter.track([1, 2, 3], "reading", 3)) == [1, 2, 3]
    assert "3/3" in out.getvalue()


def test_quiet(capsys):
    reporter = Reporter(quiet=True)
    reporter.say("x")
    list(reporter.track([1], "y"))
    assert capsys.readouterr() == ("", "")


def test_brackets_are_text(capsys):
    Reporter().say("a [b] c")
    assert capsys.readouterr().err == "a [b] c\n"


def test_interrupted_phase_says_no_line(capsys):
    with pytest.raises(KeyboardInterrupt), Reporter().bar("x", 1):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_memory_note():
    assert memory_note(torch.device("cpu")).endswith("GiB") or memory_note(torch.device("cpu")) == ""
