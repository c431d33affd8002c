"""Plots: a picture of the right kind comes out, nothing global is touched, and a missing matplotlib is explained."""

import sys

import numpy as np
import pytest
from PIL import Image

from mamba_yolo.errors import MissingPackageError
from mamba_yolo.visual import plots

NAMES = {0: "RBC", 1: "WBC"}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "run" / "plot.png"


def is_drawn(path):
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("L")))) > 5


def test_results_curves(target):
    pytest.importorskip("matplotlib")
    columns = {"epoch": [1, 2, 3], "time": [1, 2, 3], "loss": [3, 2, 1], "AP": [float("nan"), 0.2, 0.3]}
    assert is_drawn(plots.results_curves(columns, target))
    assert [p.name for p in target.parent.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("count", [0, 50])
def test_label_statistics(target, count):
    pytest.importorskip("matplotlib")
    numbers = np.random.default_rng(0)
    classes, boxes = numbers.integers(0, 2, count), numbers.uniform(0, 1, (count, 4))
    assert is_drawn(plots.label_statistics(classes, boxes, NAMES, target))


@pytest.mark.parametrize("normalized", [True, False])
def test_confusion_matrix(target, normalized):
    pytest.importorskip("matplotlib")
    assert is_drawn(plots.confusion_matrix(np.arange(9).reshape(3, 3), NAMES, target, normalized=normalized))
    plots.confusion_matrix(np.zeros((3, 3)), NAMES, target)


def test_class_curves(target):
    pytest.importorskip("matplotlib")
    x = np.linspace(0, 1, 11)
    assert is_drawn(plots.class_curves(x, np.stack([1 - x, -np.ones(11)]), NAMES, target, x_label="r", y_label="p"))
    plots.class_curves(x, np.full((2, 11), np.nan), NAMES, target, x_label="r", y_label="p")


def test_pyplot_is_not_loaded(target):
    pytest.importorskip("matplotlib")
    loaded = "matplotlib.pyplot" in sys.modules
    plots.label_statistics([0], [[0.5, 0.5, 0.1, 0.1]], NAMES, target)
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_missing_matplotlib_says_how_to_get_it(target, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mamba-yolo\[plots\]'"):
        plots.label_statistics([0], [[0.5, 0.5, 0.1, 0.1]], NAMES, target)
