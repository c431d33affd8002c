"""The fuzz driver sees what it is there for; each target runs for a moment."""

from __future__ import annotations

import pytest

from fuzz.driver import TARGETS, fuzz

PLANTED = {
    "raises": ("assert rng.random() < 0.5", "AssertionError"),
    "crashes": ("os.abort()", "ended with -6"),
    "hangs": ("while True: pass", "more than 2.0 s"),
    "eats": ("kept.append(b'1' * (1 << 28))", "bytes"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_with_its_seed(kind, tmp_path, monkeypatch):
    fault, words = PLANTED[kind]
    body = f"import os\nfrom fuzz import driver\ndriver.MAX_BYTES = 1 << 26\nkept = []\nrounds = []\ndef attempt(rng):\n    rounds.append(1)\n    if len(rounds) > 3: {fault}\n"
    if kind == "hangs":
        body = body.replace(f"    if len(rounds) > 3: {fault}", f"    if len(rounds) > 3:\n        {fault}")
    (tmp_path / f"planted_{kind}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    finding, attempts = fuzz(f"planted_{kind}", 20, 7)
    assert words in finding
    assert f"--first {7 + attempts - 1}" in finding


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_finds_nothing_for_a_moment(target):
    finding, attempts = fuzz(f"fuzz.{target}", 1, 1)
    assert finding is None
    assert attempts > 0
