"""Run folders count upwards and are never used twice."""

from __future__ import annotations

import pytest

from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.errors import SaveError


def test_numbers(tmp_path):
    made = [new_run_folder(str(tmp_path / "runs"), "predict").name for _ in range(3)]
    assert made == ["predict", "predict2", "predict3"]


def test_project_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(SaveError, match="cannot make a run folder"):
        new_run_folder(str(tmp_path / "runs"), "train")
