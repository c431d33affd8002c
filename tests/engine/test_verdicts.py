"""Verdicts on images: against the confusion matrix, by hand, and losses against batches of one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import tiny
from mamba_yolo.engine.metrics import evaluate, truth_of
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.engine.validate import validate
from mamba_yolo.engine.verdicts import image_losses


def test_found_missed_and_false_by_hand():
    dataset = tiny.TinyDataset(2)
    truths = [truth_of(dataset[i]) for i in range(2)]
    right = np.concatenate([truths[0].boxes_xyxy[0], [0.9, truths[0].classes[0]]])
    elsewhere = np.array([0, 0, 4, 4, 0.8, 1])
    detections = [np.stack([elsewhere, right]).astype(np.float32), np.zeros((0, 6), np.float32)]
    first, second = evaluate(truths, detections, tiny.NAMES).verdicts
    assert first.rows[first.found == 0, 4] == pytest.approx(0.9)
    assert first.missed.tolist() == []
    assert second.missed.tolist() == [0]
    assert second.wrong_classes() == {int(truths[1].classes[0])}
    assert np.isnan(second.loss)


def test_sums_equal_the_confusion_matrix():
    rng = np.random.default_rng(0)
    dataset = tiny.TinyDataset(40)
    truths = [truth_of(dataset[i]) for i in range(40)]
    detections = []
    for truth in truths:
        boxes = np.concatenate([truth.boxes_xyxy + rng.normal(0, 3, truth.boxes_xyxy.shape), rng.random((3, 4)) * 60])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        rest = np.stack([rng.random(len(boxes)), rng.integers(0, 2, len(boxes))], axis=1)
        detections.append(np.concatenate([boxes, rest], axis=1).astype(np.float32))
    metrics = evaluate(truths, detections, tiny.NAMES)
    assert sum((v.found >= 0).sum() for v in metrics.verdicts) == np.trace(metrics.confusion[:2, :2])
    assert sum(len(v.missed) for v in metrics.verdicts) == metrics.instances - np.trace(metrics.confusion[:2, :2])
    assert sum(len(v.rows) for v in metrics.verdicts) == metrics.confusion[:2].sum()


def test_the_loss_of_an_image_is_that_of_a_batch_of_one():
    dataset, detector, criterion = tiny.TinyDataset(5), tiny.tiny_detector().eval(), tiny.TinyLoss(2)
    (batch,) = tiny.TinyLoader(dataset, batch_size=5, train=False).epoch(0)
    with torch.inference_mode():
        together = image_losses(detector(batch.images / 255), batch, criterion, torch.device("cpu"))
        alone = {}
        for one in tiny.TinyLoader(dataset, batch_size=1, train=False).epoch(0):
            alone |= image_losses(detector(one.images / 255), one, criterion, torch.device("cpu"))
    assert together == pytest.approx(alone, rel=1e-5)
    assert len(set(together.values())) == 5


def test_validation_gives_every_image_its_loss(tmp_path):
    loader = tiny.TinyLoader(tiny.TinyDataset(5), batch_size=2, train=False)
    metrics = validate(tiny.tiny_detector(), loader, criterion=tiny.TinyLoss(2), per_image=True)
    assert np.isfinite([v.loss for v in metrics.verdicts]).all()
    plain = validate(tiny.tiny_detector(), loader, criterion=tiny.TinyLoss(2))
    assert np.isnan([v.loss for v in plain.verdicts]).all()
    assert plain == metrics


def test_training_without_report_computes_no_losses_of_images(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    result = train(tiny.tiny_config(tmp_path, epochs=1), model=tiny.tiny_detector(), progress=Reporter(quiet=True))
    assert np.isnan([v.loss for v in result.best_metrics.verdicts]).all()
