"""Filter banks by Muon beside torch's own on matrices, everything else beside torch's SGD."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from mamba_yolo.cli.demo import DATA
from mamba_yolo.config import TrainConfig, from_flat
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.muon import RATE_OF_FILTERS, Muon, normalised_filters, orthogonalised
from mamba_yolo.engine.optim import build_optimizer, make_plan
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.models import build_detector
from mamba_yolo.models.layers import ConvNormAct

RATE, DECAY, MOMENTUM = 0.01, 0.1, 0.95


FILTERS = {"wide.conv.weight", "tall.conv.weight", "tall2.conv.weight"}


def layers():
    """A normalised filter bank of each orientation, and what is none."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "wide": ConvNormAct(32, 24, 3),
            "tall": ConvNormAct(16, 48, 1),
            "tall2": ConvNormAct(16, 48, 1),
            "narrow": ConvNormAct(3, 24, 1),
            "projection": nn.Conv2d(32, 32, 1),
            "depthwise": nn.Conv2d(32, 32, 3, groups=32),
        }
    )


def muon(module, **options):
    groups = [{"params": list(module.parameters()), "weight_decay": DECAY}]
    return Muon(groups, normalised_filters(module), **{"lr": RATE, "momentum": MOMENTUM, **options})


def give_gradients(parameters, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale


def test_which_parameters_are_filter_banks():
    found = normalised_filters(layers())
    assert {n for n, p in layers().named_parameters() if any(p.shape == f.shape for f in found)} == FILTERS
    detector = build_detector("n", num_classes=3)
    banks = {id(w) for w in normalised_filters(detector)}
    names = {name for name, p in detector.named_parameters() if id(p) in banks}
    assert "head.box_branches.0.0.conv.weight" in names
    assert not {n for n in names if ".mlp." in n or ".scans." in n}  # what they write is added up, not normalised
    assert sum(p.numel() for p in detector.parameters() if id(p) in banks) > 0.25 * 1_811_073


@given(st.integers(2, 24), st.integers(2, 24), st.integers(1, 3), st.integers(0, 2**16))
def test_singular_vectors_stay_and_singular_values_become_one(rows, columns, count, seed):
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(
        torch.randn(count, rows, columns, dtype=torch.float64, generator=generator), full_matrices=False
    )
    values = 0.05 + torch.rand(count, min(rows, columns), dtype=torch.float64, generator=generator)
    found = orthogonalised(left * values[:, None] @ right)
    inner = left.mT @ found @ right.mT
    off = inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-9
    assert inner.diagonal(dim1=1, dim2=2).min() > 0.6
    assert inner.diagonal(dim1=1, dim2=2).max() < 1.25


def test_nothing_comes_of_nothing():
    assert torch.equal(orthogonalised(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_filter_banks_move_as_matrices_do_in_torchs_muon():
    module = layers()
    banks, optimizer = normalised_filters(module), muon(module)
    matrices = [nn.Parameter(bank.detach().flatten(1).clone()) for bank in banks]
    rate = RATE * RATE_OF_FILTERS
    theirs = torch.optim.Muon(matrices, lr=rate, weight_decay=DECAY, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        give_gradients(banks, step)
        before = [bank.detach().flatten(1).clone() for bank in banks]
        for bank, matrix, old in zip(banks, matrices, before, strict=True):
            matrix.data.copy_(old)
            matrix.grad = bank.grad.flatten(1).clone()
        optimizer.step()
        theirs.step()
        for bank, matrix, old in zip(banks, matrices, before, strict=True):
            moved, expected = bank.detach().flatten(1) - old, matrix.detach() - old
            assert (moved - expected).norm() < 0.03 * expected.norm()  # torch computes in bfloat16


def test_everything_else_is_torchs_sgd():
    ours = layers()
    theirs = copy.deepcopy(ours)
    rest = [name for name, _ in ours.named_parameters() if name not in FILTERS]
    parameters = [theirs.get_parameter(name) for name in rest]
    alone = torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    optimizer = muon(ours)
    for step in range(3):
        give_gradients(ours.parameters(), step)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = mine.grad.clone()
        optimizer.step()
        alone.step()
    assert len(rest) == 13
    assert all(torch.equal(ours.get_parameter(n), theirs.get_parameter(n)) for n in rest)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_steps_of_filter_banks_do_not_depend_on_the_size_of_gradients(scale):
    one, other = layers(), layers()
    for module, size in ((one, 1.0), (other, scale)):
        give_gradients(module.parameters(), 0, size)
        muon(module).step()
    for name in ("wide", "tall"):
        torch.testing.assert_close(one[name].conv.weight, other[name].conv.weight, rtol=1e-4, atol=1e-6)


def test_a_step_has_the_size_of_adamws():
    ours = layers()
    before = ours["wide"].conv.weight.detach().clone()
    give_gradients(ours.parameters(), 0)
    muon(ours, lr=1 / RATE_OF_FILTERS).step()
    step = ours["wide"].conv.weight.detach() - before * (1 - DECAY)
    assert 0.15 < step.square().mean().sqrt() < 0.25


def test_channels_last_changes_nothing():
    one, other = layers(), layers().to(memory_format=torch.channels_last)
    for module in (one, other):
        optimizer = muon(module)
        for step in range(2):
            give_gradients(module.parameters(), step)
            optimizer.step()
    assert other["wide"].conv.weight.is_contiguous(memory_format=torch.channels_last)
    for mine, same in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, same, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_stays():
    ours = layers()
    before = copy.deepcopy(ours.state_dict())
    ours["tall"].conv.weight.grad = torch.ones_like(ours["tall"].conv.weight)
    muon(ours).step()
    changed = {name for name, value in ours.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"tall.conv.weight"}


def test_state_goes_through_a_state_dict():
    ours, theirs = layers(), layers()
    first, second = muon(ours), muon(theirs)
    give_gradients(ours.parameters(), 0)
    first.step()
    theirs.load_state_dict(ours.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, optimizer in ((ours, first), (theirs, second)):
        give_gradients(module.parameters(), 1)
        optimizer.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_plan_builds_it_with_three_groups_and_the_momentum_of_the_schedule():
    plan = make_plan(TrainConfig(optimizer="muon", lr0=0.02, momentum=0.9), 10)
    optimizer = build_optimizer(layers(), plan)
    assert isinstance(optimizer, Muon)
    assert [g["name"] for g in optimizer.param_groups] == ["weights", "norms", "biases"]
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.02, 0.9)] * 3


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, epoch, row, metrics):
            raise KeyboardInterrupt

    options = {
        "data": str(DATA),
        "model": "n",
        "epochs": 2,
        "imgsz": 64,
        "batch": 16,
        "optimizer": "muon",
        "plots": False,
    }
    weights = []
    for name, stops in (("straight", []), ("halves", [Stop()])):
        config = from_flat(TrainConfig, {**options, "plots": False, "project": str(tmp_path), "name": name})
        if stops:
            with pytest.raises(KeyboardInterrupt):
                train(config, callbacks=stops, progress=Reporter(quiet=True))
            last = tmp_path / name / "weights" / "last.safetensors"
            config = from_flat(TrainConfig, {"model": str(last), "resume": True})
        train(config, progress=Reporter(quiet=True))
        weights.append(load_file(tmp_path / name / "weights" / "last.safetensors"))
    assert sum(key.endswith("momentum_buffer") for key in weights[0]) > 20
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
