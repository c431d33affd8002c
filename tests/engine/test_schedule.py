"""Rates against their closed forms."""

from __future__ import annotations

import math

import pytest

from mamba_yolo.engine.schedule import Schedule, accumulation, ema_tau, optimizer_steps


def schedule(**values):
    defaults = {
        "epochs": 100, "batches_per_epoch": 50, "lr0": 0.01, "lrf": 0.01, "momentum": 0.937, "accumulate": 4,
        "warmup_epochs": 3.0, "warmup_bias_lr": 0.1, "warmup_momentum": 0.8,
    }  # fmt: skip
    return Schedule(**(defaults | values))


@pytest.mark.parametrize("epoch", [3, 10, 50, 99])
def test_linear_decay(epoch):
    rates = schedule().at(epoch, 7)
    assert rates.lr == pytest.approx(0.01 + (0.0001 - 0.01) * epoch / 100, rel=1e-12)
    assert rates.bias_lr == rates.lr
    assert (rates.momentum, rates.accumulate) == (0.937, 4)


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (0, 49), (1, 25), (2, 49)])
def test_warm_up(epoch, batch):
    share = (epoch * 50 + batch) / 150
    target = 0.01 + (0.0001 - 0.01) * epoch / 100
    rates = schedule().at(epoch, batch)
    assert rates.lr == pytest.approx(share * target)
    assert rates.bias_lr == pytest.approx(0.1 + share * (target - 0.1))
    assert rates.momentum == pytest.approx(0.8 + share * (0.937 - 0.8))
    assert rates.accumulate == max(round(1 + 3 * share), 1)


def test_warm_up_ends_continuously():
    s = schedule()
    assert s.at(2, 49).lr == pytest.approx(s.at(3, 0).lr, rel=0.02)


@pytest.mark.parametrize(("epochs", "batches", "expected"), [(100, 50, 150), (6, 10, 20), (1, 2, 0), (3, 10, 10)])
def test_warm_up_is_at_most_a_third_of_the_run(epochs, batches, expected):
    s = schedule(epochs=epochs, batches_per_epoch=batches)
    assert s.warmup_batches == expected
    assert s.at(epochs - 1, batches - 1).lr > 0


def test_no_warm_up():
    assert schedule(warmup_epochs=0.0).at(0, 0).lr == 0.01


@pytest.mark.parametrize(
    ("nominal", "batch", "expected"), [(64, 16, 4), (64, 64, 1), (64, 512, 1), (64, 24, 3), (1, 8, 1)]
)
def test_accumulation(nominal, batch, expected):
    assert accumulation(nominal, batch) == expected


def test_every_epoch_ends_with_a_step():
    assert optimizer_steps(30, 13, 4) == 120


def test_ema_ramp_is_that_of_the_release_for_long_runs_and_covers_a_twentieth_of_short_ones():
    assert ema_tau(50_000) == 2000
    for steps in (200, 1000, 10_000):
        assert math.exp(steps / ema_tau(steps)) == pytest.approx(steps / 20)
    taus = [ema_tau(steps) for steps in range(1, 20_000)]
    assert min(taus) >= 1
    assert max(taus) == 2000
