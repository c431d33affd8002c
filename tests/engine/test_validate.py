"""From batches to figures: letterbox undone, boxes clipped, NaN refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import tiny
from mamba_yolo.engine import validate as validate_module
from mamba_yolo.engine.validate import _to_image, validate
from mamba_yolo.errors import ConfigError, TrainingError


@pytest.fixture
def oracle(monkeypatch):
    """Decoded outputs that are the ground truth itself."""
    dataset = tiny.TinyDataset(6)

    def decode(raw):
        batch = raw.levels[0].shape[0]
        out = torch.zeros(batch, 4 + 2, 1)
        for b in range(batch):
            sample = dataset[decode.seen]
            decode.seen += 1
            if len(sample.boxes_xyxy):
                x1, y1, x2, y2 = sample.boxes_xyxy[0].tolist()
                out[b, :4, 0] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
                out[b, 4 + int(sample.classes[0]), 0] = 0.9
        return out

    decode.seen = 0
    monkeypatch.setattr(validate_module, "decode", decode)
    return dataset


def loader(dataset, batch=4):
    return tiny.TinyLoader(dataset, batch_size=batch, train=False)


def test_perfect_detector(oracle):
    metrics = validate(tiny.tiny_detector(), loader(oracle))
    assert metrics.map50_95 == pytest.approx(1)
    assert metrics.images == 6
    assert set(metrics.speed_ms) == {"load", "network", "nms"}


def test_batch_size_does_not_matter():
    figures = [validate(tiny.tiny_detector(), loader(tiny.TinyDataset(6), b)).coco for b in (1, 4, 6)]
    assert figures[0] == pytest.approx(figures[1])
    assert figures[0] == pytest.approx(figures[2])


def test_letterbox_is_undone_and_boxes_clipped():
    rows = torch.tensor([[10.0, 30.0, 60.0, 50.0, 0.9, 1.0], [0.0, 0.0, 64.0, 64.0, 0.5, 0.0]])
    letterbox = torch.tensor([0.5, 2.0, 20.0])  # gain, left, top
    assert _to_image(rows, letterbox, (50, 120)).tolist() == [
        [16.0, 20.0, 116.0, 50.0, pytest.approx(0.9), 1.0],
        [0.0, 0.0, 120.0, 50.0, 0.5, 0.0],
    ]
    assert _to_image(rows[:0], letterbox, (50, 120)).shape == (0, 6)


def test_nan_names_the_image():
    detector = tiny.tiny_detector()
    with torch.no_grad():
        detector.head[0].bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"NaN or infinity for image0\.png"):
        validate(detector, loader(tiny.TinyDataset(3)))


def test_other_number_of_classes():
    with pytest.raises(ConfigError, match="the model has 5 classes, the data 2"):
        validate(tiny.tiny_detector(num_classes=5), loader(tiny.TinyDataset(3)))


def test_first_batch_is_shown_and_losses_are_means():
    seen = []
    metrics = validate(
        tiny.tiny_detector(), loader(tiny.TinyDataset(6)), criterion=tiny.TinyLoss(2),
        watch=lambda batch, found, masks: seen.append((len(batch.images), len(found), found[0].dtype, masks)),
    )  # fmt: skip
    assert seen == [(4, 4, np.float32, None)]
    assert set(metrics.losses) == {"box", "cls", "dfl"}


def test_silent_without_a_reporter(capfd):
    validate(tiny.tiny_detector(), loader(tiny.TinyDataset(2)))
    assert capfd.readouterr() == ("", "")
