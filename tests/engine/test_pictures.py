"""Pictures of a run: all of them, the right pixels, and life without matplotlib."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine import tiny
from mamba_yolo.engine import pictures
from mamba_yolo.engine.pictures import _true_rows
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import MissingPackageError, SaveError

DRAWN = {"train_batch0.jpg", "train_batch1.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}
PLOTTED = {
    "labels.jpg", "results.png", "confusion_matrix.png", "confusion_matrix_normalized.png",
    "BoxPR_curve.png", "BoxP_curve.png", "BoxR_curve.png", "BoxF1_curve.png",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


def run(folder, reporter=None):
    config = tiny.tiny_config(folder, epochs=1, plots=True)
    return train(config, model=tiny.tiny_detector(), progress=reporter or Reporter(quiet=True)).run_dir


def found(folder):
    return {p.name for p in folder.iterdir() if p.suffix in (".jpg", ".png")}


def test_every_picture_is_there_and_opens(tmp_path):
    pytest.importorskip("matplotlib")
    folder = run(tmp_path)
    assert found(folder) == DRAWN | PLOTTED
    for name in DRAWN | PLOTTED:
        with Image.open(folder / name) as image:
            assert min(image.size) > 200


def test_without_matplotlib_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    def missing(*_args):
        raise MissingPackageError("plots need matplotlib; pip install 'mamba-yolo[plots]'")

    monkeypatch.setattr(pictures.plots, "_figure", missing)
    folder = run(tmp_path, Reporter())
    assert found(folder) == DRAWN
    assert capsys.readouterr().err.count("pip install 'mamba-yolo[plots]'") == 1


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_picture", full)
    with pytest.raises(SaveError, match=r"cannot write .*train_batch0\.jpg.*No space left"):
        run(tmp_path)


def test_targets_lie_on_the_squares():
    dataset = tiny.TinyDataset(6)
    batch = next(iter(tiny.TinyLoader(dataset, batch_size=6, train=False).epoch(0)))
    for rows, sample in zip(_true_rows(batch), dataset.samples, strict=True):
        np.testing.assert_allclose(rows[:, :4], sample.boxes_xyxy, atol=1e-4)
        assert rows[:, 5].tolist() == sample.classes.tolist()
