"""Running statistics of short and long runs."""

from __future__ import annotations

import torch
from torch import nn

from mamba_yolo.engine.norms import NormMomentum


def momenta(batches, norm=None, *, short_run=False):
    norm = norm or nn.BatchNorm1d(1, momentum=0.03)
    schedule = NormMomentum(nn.Sequential(norm), short_run=short_run)
    values = []
    for _ in range(batches):
        schedule.next_batch()
        values.append(norm.momentum)
    return values


def test_first_batches_are_plainly_averaged():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(1, momentum=0.03)
    schedule = NormMomentum(norm, short_run=False)
    batches = [torch.randn(8, 1) * 3 + 5 for _ in range(20)]
    for batch in batches:
        schedule.next_batch()
        norm(batch)
    torch.testing.assert_close(norm.running_mean, torch.stack(batches).mean(dim=(0, 1)))
    torch.testing.assert_close(norm.running_var[0], torch.stack([b.var() for b in batches]).mean())


def test_long_runs_keep_the_momentum_of_the_network():
    values = momenta(60)
    assert values[:3] == [1, 1 / 2, 1 / 3]
    assert values[40:] == [0.03] * 20


def test_short_runs_follow_their_weights_closely():
    assert momenta(6, short_run=True) == [1, 1 / 2, 1 / 3, 0.3, 0.3, 0.3]


def test_trained_statistics_are_not_thrown_away():
    norm = nn.BatchNorm1d(1, momentum=0.03)
    norm.num_batches_tracked.fill_(5000)
    assert momenta(2, norm) == [0.03, 0.03]


def test_networks_without_batch_norm():
    NormMomentum(nn.Linear(1, 1), short_run=True).next_batch()
