"""Parameter groups, the choice of optimizer, weight decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mamba_yolo.config import DetectorConfig, TrainConfig
from mamba_yolo.engine.optim import build_optimizer, make_plan, parameter_groups, set_rates
from mamba_yolo.engine.schedule import Rates
from mamba_yolo.models.detector import Detector


@pytest.fixture(scope="module")
def detector():
    return Detector(DetectorConfig(width=1 / 16, num_classes=2, stage_depths=(1, 1, 1, 1)))


def test_every_parameter_is_in_one_group_and_decay_spares_what_it_must(detector):
    groups = parameter_groups(detector)
    group_of = {id(p): name for name, parameters in groups.items() for p in parameters}
    names = {name: group_of[id(p)] for name, p in detector.named_parameters() if p.requires_grad}
    assert len(names) == sum(map(len, groups.values()))
    for name, group in names.items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in ("A_logs", "Ds", "dt_projs_bias") or "norm" in name:
            assert group == "norms", name
        elif leaf == "bias":
            assert group == "biases", name
        else:
            assert group == "weights", name
    assert {n.rsplit(".", 1)[-1] for n in names} >= {"A_logs", "Ds", "dt_projs_bias", "x_proj_weight", "weight", "bias"}


def test_frozen_and_shared_parameters():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    groups = parameter_groups(nn.Sequential(layer, layer))
    assert [len(g) for g in groups.values()] == [1, 0, 0]


def test_only_weights_decay():
    plan = make_plan(TrainConfig(optimizer="sgd"), 100)
    optimizer = build_optimizer(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), plan)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [5e-4, 0.0, 0.0]


@pytest.mark.parametrize(("batch", "decay"), [(16, 5e-4), (128, 1e-3), (24, 5e-4 * 72 / 64)])
def test_weight_decay_follows_the_real_batch(batch, decay):
    assert make_plan(TrainConfig(batch=batch, nbs=64), 100).weight_decay == pytest.approx(decay)


def test_auto_takes_muon_for_short_runs_at_the_rates_of_sgd():
    plan = make_plan(TrainConfig(epochs=100), 400)  # 100 steps an epoch
    assert (plan.kind, plan.is_short) == ("sgd", False)
    plan = make_plan(TrainConfig(epochs=99), 400)
    assert (plan.kind, plan.is_short) == ("muon", True)
    assert plan.schedule.lr0 == 0.01
    assert plan.schedule.momentum == 0.937
    assert plan.schedule.at(0, 0).bias_lr == 0
    assert make_plan(TrainConfig(epochs=99, lr0=0.02, momentum=0.9), 400).schedule.lr0 == 0.02


def test_a_short_run_steps_after_every_batch_unless_told_otherwise():
    assert make_plan(TrainConfig(batch=8), 10).schedule.accumulate == 1
    assert make_plan(TrainConfig(batch=8, nbs=64), 10).schedule.accumulate == 8
    assert make_plan(TrainConfig(batch=8, optimizer="sgd"), 10).schedule.accumulate == 8
    assert make_plan(TrainConfig(batch=8, optimizer="muon"), 10).schedule.accumulate == 1
    assert make_plan(TrainConfig(batch=8, optimizer="muon", nbs=64), 10).schedule.accumulate == 8


def test_chosen_optimizer_keeps_the_given_rate():
    assert make_plan(TrainConfig(optimizer="adamw", lr0=3e-4), 10).schedule.lr0 == 3e-4
    plan = make_plan(TrainConfig(optimizer="sgd"), 10)
    assert isinstance(build_optimizer(nn.Linear(1, 1), plan), torch.optim.SGD)
    assert plan.schedule.at(0, 0).bias_lr == 0.1


def test_rates_reach_the_groups():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = build_optimizer(model, make_plan(TrainConfig(optimizer="sgd"), 10))
    set_rates(optimizer, Rates(lr=0.5, bias_lr=0.25, momentum=0.75, accumulate=1))
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.5, 0.25]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.75] * 3
    assert all(g["nesterov"] for g in optimizer.param_groups)


TORCHS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.937, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.937, 0.999)),
}


@pytest.mark.parametrize("kind", TORCHS)
def test_steps_are_torchs_own(kind):
    plan = make_plan(TrainConfig(optimizer=kind, lr0=0.01, warmup_epochs=0), 10)
    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    layers[1].load_state_dict(layers[0].state_dict())
    weights, biases = (
        {"params": [p], "weight_decay": decay} for p, decay in zip(layers[1].parameters(), (5e-4, 0), strict=True)
    )
    ours, theirs = build_optimizer(layers[0], plan), TORCHS[kind]([weights, biases])
    for step in range(3):
        for layer, optimizer in zip(layers, (ours, theirs), strict=True):
            torch.manual_seed(step)
            layer(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(map(torch.equal, layers[0].parameters(), layers[1].parameters()))
