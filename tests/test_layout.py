"""Promises about the repository itself: sizes of files, one home for pyo3 and CUDA, no grab-bags."""

import re

import pytest

from helpers import ROOT

SOURCES = [p for folder in ("python", "rust/src") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".rs")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 350
    assert path.stem not in ("utils", "util", "misc", "common", "helpers")


def test_only_the_glue_names_pyo3():
    named = [p for p in SOURCES if p.suffix == ".rs" and re.search(r"\bpyo3\b", p.read_text(encoding="utf-8"))]
    assert named
    assert all("src/py/" in p.as_posix() for p in named)


def test_one_python_file_per_layer_imports_the_native_module():
    pattern = re.compile(r"^\s*(from mamba_yolo import _rust|from mamba_yolo\._rust|import mamba_yolo\._rust)", re.M)
    homes = {
        p.relative_to(ROOT / "python/mamba_yolo").as_posix() for p in SOURCES if pattern.search(p.read_text("utf-8"))
    }
    assert homes == {"__init__.py", "ops/_native.py", "data/_native.py"}


def test_cuda_folder_holds_no_python():
    assert not list((ROOT / "cuda").rglob("*.py")), "it would shadow NVIDIA's cuda package"
