"""The averaged weights against their formula."""

from __future__ import annotations

import math

import torch
from torch import nn

from mamba_yolo.engine.ema import Ema


def test_average_follows_the_formula():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.9999, tau=20.0)
    expected = model.weight.detach().double().clone()
    for n in range(1, 31):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        ema.update(model)
        d = 0.9999 * (1 - math.exp(-n / 20))
        expected = d * expected + (1 - d) * model.weight.detach().double()
    torch.testing.assert_close(ema.module.weight.double(), expected, rtol=1e-5, atol=1e-5)
    assert ema.updates == 30


def test_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.5, tau=1e-9)  # decay is 0.5 from the first update
    model(torch.full((4, 2), 10.0) + torch.arange(4.0)[:, None])
    ema.update(model)
    torch.testing.assert_close(ema.module.running_mean, model.running_mean / 2)
    assert int(ema.module.num_batches_tracked) == 1


def test_average_is_in_eval_mode_without_gradients_and_independent():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)).train()
    ema = Ema(model, 0.9, 1.0)
    assert not ema.module.training
    assert model.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    with torch.no_grad():
        model[0].weight.add_(1)
    assert not torch.equal(model[0].weight, ema.module[0].weight)
