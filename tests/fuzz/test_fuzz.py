"""The fuzz driver sees what it is there for; each target runs for a moment."""

from __future__ import annotations

import pytest

from fuzz.driver import TARGETS, fuzz

PLANTED = {
    "raises": ("assert rng.random() < 0.5", "AssertionError"),
    "crashes": ("os.abort()", "ended with -6"),
    "hangs": ("while True: pass", "more than 2.0 s"),
    "eats": ("kept.append(b'1' * (3 << 27))", "bytes"),
}


MODULE = """
import os
from fuzz import driver
driver.MAX_BYTES = 1 << 28
kept, rounds = [], []

def attempt(rng):
    rounds.append(1)
    if len(rounds) > 3:
        {fault}
"""


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_with_its_seed(kind, tmp_path, monkeypatch):
    fault, words = PLANTED[kind]
    (tmp_path / f"planted_{kind}.py").write_text(MODULE.format(fault=fault))
    monkeypatch.syspath_prepend(tmp_path)
    finding, attempts = fuzz(f"planted_{kind}", 20, 7)
    assert words in finding
    assert f"--first {7 + attempts - 1}" in finding


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_finds_nothing_for_a_moment(target):
    finding, attempts = fuzz(f"fuzz.{target}", 1, 1)
    assert finding is None
    assert attempts > 0
