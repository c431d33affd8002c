"""Frozen parts keep their weights and their statistics, and the rest trains."""

from __future__ import annotations

import pytest
import torch

from mamba_yolo.config import FREEZABLE_PARTS, TrainConfig
from mamba_yolo.engine.freeze import freeze, parts, train_unfrozen
from mamba_yolo.engine.norms import NormMomentum
from mamba_yolo.engine.optim import build_optimizer, make_plan
from mamba_yolo.models import build_detector


def step(detector):
    optimizer = build_optimizer(detector, make_plan(TrainConfig(optimizer="sgd"), 10))
    norms = NormMomentum(detector, short_run=True)
    train_unfrozen(detector)
    norms.next_batch()
    raw = detector(torch.rand(2, 3, 64, 64))
    sum(level.square().mean() for level in raw.levels).backward()
    optimizer.step()


@pytest.mark.parametrize("count", [1, 9, 10])
def test_frozen_parts_stay_as_they_are(count):
    torch.manual_seed(0)
    detector = build_detector("n", 3, drop_path=0.5)
    freeze(detector, count)
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    frozen = {id(t) for part in parts(detector)[:count] for t in part.state_dict(keep_vars=True).values()}
    step(detector)
    for name, value in detector.state_dict(keep_vars=True).items():
        same = torch.equal(value, before[name])
        if id(value) in frozen:
            assert same, name
        elif name.endswith(("2.weight", "num_batches_tracked")):
            assert not same, name


def test_parts_are_the_whole_network_but_the_head():
    detector = build_detector("n", 3)
    assert len(parts(detector)) == FREEZABLE_PARTS
    counted = sum(p.numel() for part in parts(detector) for p in part.parameters())
    assert counted == sum(p.numel() for m in (detector.backbone, detector.neck) for p in m.parameters())


def test_nothing_is_frozen_by_default():
    detector = build_detector("n", 3)
    freeze(detector, TrainConfig().freeze)
    assert [name for name, p in detector.named_parameters() if not p.requires_grad] == ["head.bins"]
