"""Filter banks by Muon beside torch's own on matrices, everything else beside torch's AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.muon import LEAST_SIDE, Muon, is_filter_bank, orthogonalised
from mamba_yolo.engine.optim import build_optimizer, make_plan
from mamba_yolo.models import build_detector

RATE, DECAY = 0.01, 0.1
BETAS = (0.9, 0.999)


def layers():
    """A dense filter bank of each orientation, and what is none."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "wide": nn.Conv2d(32, 24, 3, bias=False),
            "tall": nn.Conv2d(16, 48, 1, bias=False),
            "tall2": nn.Conv2d(16, 48, 1, bias=False),
            "depthwise": nn.Conv2d(32, 32, 3, groups=32),
            "classes": nn.Conv2d(32, 3, 1),
            "norm": nn.BatchNorm2d(8),
        }
    )


def muon(parameters, **options):
    return Muon(
        [{"params": list(parameters), "weight_decay": DECAY}],
        **{"lr": RATE, "momentum": 0.95, "betas": BETAS, **options},
    )


def give_gradients(parameters, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale


def test_which_parameters_are_filter_banks():
    assert {n for n, p in layers().named_parameters() if is_filter_bank(p)} == {
        "wide.weight",
        "tall.weight",
        "tall2.weight",
    }
    detector = build_detector("n", num_classes=3)
    banks = {name for name, p in detector.named_parameters() if is_filter_bank(p)}
    convolutions = {
        f"{name}.weight"
        for name, module in detector.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.groups == 1
        and min(module.out_channels, module.weight[0].numel()) >= LEAST_SIDE
    }
    assert banks == convolutions
    assert sum(p.numel() for n, p in detector.named_parameters() if n in banks) > 0.75 * sum(
        p.numel() for p in detector.parameters()
    )


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
    ours = layers()
    banks = [p for p in ours.parameters() if is_filter_bank(p)]
    matrices = [nn.Parameter(bank.detach().flatten(1).clone()) for bank in banks]
    theirs = torch.optim.Muon(matrices, lr=RATE, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    optimizer = muon(banks)
    for step in range(4):
        before = [bank.detach().flatten(1).clone() for bank in banks]
        give_gradients(banks, step)
        for bank, matrix in zip(banks, matrices, strict=True):
            matrix.data.copy_(before.pop(0))
            matrix.grad = bank.grad.flatten(1).clone()
        optimizer.step()
        was = [m.detach().clone() for m in matrices]
        theirs.step()
        for bank, matrix, old in zip(banks, matrices, was, strict=True):
            moved, expected = bank.detach().flatten(1) - old, matrix.detach() - old
            assert (moved - expected).norm() < 0.03 * expected.norm()  # torch computes in bfloat16


def test_everything_else_is_torchs_adamw():
    ours = layers()
    rest = [name for name, p in ours.named_parameters() if not is_filter_bank(p)]
    theirs = copy.deepcopy(ours)
    alone = torch.optim.AdamW(
        [dict(theirs.named_parameters())[n] for n in rest], lr=RATE, betas=BETAS, weight_decay=DECAY
    )
    optimizer = muon(ours.parameters())
    for step in range(3):
        give_gradients(ours.parameters(), step)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = mine.grad.clone()
        optimizer.step()
        alone.step()
    assert len(rest) == 6
    assert all(torch.equal(dict(ours.named_parameters())[n], dict(theirs.named_parameters())[n]) for n in rest)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_steps_of_filter_banks_do_not_depend_on_the_size_of_gradients(scale):
    one, other = layers(), layers()
    for module, size in ((one, 1.0), (other, scale)):
        give_gradients(module.parameters(), 0, size)
        muon(module.parameters()).step()
    for name in ("wide", "tall"):
        torch.testing.assert_close(one[name].weight, other[name].weight, rtol=1e-4, atol=1e-6)


def test_a_step_has_the_size_of_adamws():
    ours = layers()
    before = ours["wide"].weight.detach().clone()
    give_gradients(ours.parameters(), 0)
    muon(ours.parameters(), lr=1.0).step()
    step = ours["wide"].weight.detach() - before * (1 - DECAY)
    assert 0.15 < step.square().mean().sqrt() < 0.25


def test_channels_last_changes_nothing():
    one, other = layers(), layers().to(memory_format=torch.channels_last)
    for module in (one, other):
        optimizer = muon(module.parameters())
        for step in range(2):
            give_gradients(module.parameters(), step)
            optimizer.step()
    assert other["wide"].weight.is_contiguous(memory_format=torch.channels_last)
    for mine, same in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, same, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_stays():
    ours = layers()
    before = copy.deepcopy(ours.state_dict())
    ours["tall"].weight.grad = torch.ones_like(ours["tall"].weight)
    muon(ours.parameters()).step()
    changed = {name for name, value in ours.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"tall.weight"}


def test_state_goes_through_a_state_dict():
    ours, theirs = layers(), layers()
    first, second = muon(ours.parameters()), muon(theirs.parameters())
    give_gradients(ours.parameters(), 0)
    first.step()
    theirs.load_state_dict(ours.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, optimizer in ((ours, first), (theirs, second)):
        give_gradients(module.parameters(), 1)
        optimizer.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_plan_builds_it_with_three_groups_and_the_momentum_of_the_schedule():
    plan = make_plan(TrainConfig(optimizer="muon", lr0=0.02, momentum=0.9), 10, 3)
    optimizer = build_optimizer(layers(), plan)
    assert isinstance(optimizer, Muon)
    assert [g["name"] for g in optimizer.param_groups] == ["weights", "norms", "biases"]
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.02, 0.9)] * 3
