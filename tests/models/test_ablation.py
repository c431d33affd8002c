"""The ablation table: every network counted by hand, built, and named."""

import itertools
import math

import pytest
import torch

from mamba_yolo.errors import ConfigError
from mamba_yolo.models import Detector
from mamba_yolo.models.ablation import ABLATION, chosen_rows, count, mismatches, published, row_config

NAMES = [row.name for row in ABLATION]


def conv(c_in, c_out, kernel=1, bias=False):
    """Convolution with batch norm."""
    return kernel**2 * c_in * c_out + (c_out if bias else 0) + 2 * c_out


def scan(c, states):
    inner, rank = 2 * c, math.ceil(c / 16)
    directions = (rank + 2 * states) * inner + inner * rank + inner + inner * states + inner
    return c * 2 * inner + 10 * inner + 4 * directions + 2 * inner + inner * c


def mlp(c, kind):
    gated = 2 * 4 * c // 3
    return {
        "mlp": 4 * c * c + 4 * c + 4 * c * c + c,
        "conv_mlp": 4 * c * c + 4 * c + 40 * c + 4 * c * c + c,
        "res_conv_mlp": 4 * c * c + 4 * c + 40 * c + 4 * c * c + c,
        "gated_mlp": 2 * gated * (c + 1) + gated * c + c,
        "rg": 2 * gated * (c + 1) + 10 * gated + gated * c + c,
    }[kind]


def block(config, c, scans):
    """ODSSBlock without its projection."""
    local = 10 * c + 2 * c + 2 * (c * c + c) if config.local_spatial else 0
    return local + 2 * 2 * c + scans * scan(c, config.state_size) + mlp(c, config.channel_mlp)


def neck_block(config, c_in, c):
    depth = max(round(3 * config.depth), 1)
    if config.neck_block == "c2f":
        half = c // 2
        return conv(c_in, 2 * half) + depth * 2 * conv(half, half, 3) + conv((2 + depth) * half, c)
    return conv(c_in, c) + block(config, c, depth)


def head(levels, classes):
    box, category = max(64, levels[0] // 4), max(levels[0], min(classes, 100))
    per_level = [
        conv(c, box, 3) + conv(box, box, 3) + 65 * 64 + conv(c, category, 3) + conv(category, category, 3)
        for c in levels
    ]
    return sum(per_level) + len(levels) * ((box - 64) * 64 + (category + 1) * classes) + 16


def by_hand(config):
    channels = [math.ceil(min(c, config.max_channels) * config.width / 8) * 8 for c in (128, 256, 512, 1024)]
    total = conv(3, channels[0] // 2, 3) + conv(channels[0] // 2, channels[0], 3)
    for c, depth in zip(channels, config.stage_depths, strict=True):
        total += max(round(depth * config.depth), 1) * (conv(c, c, bias=True) + block(config, c, 1))
    for fine, coarse in itertools.pairwise(channels):
        merge = config.downsampling == "clue_merge"
        total += conv(4 * fine, coarse, bias=True) if merge else conv(fine, coarse, 3)
    total += conv(channels[-1], channels[-1] // 2) + conv(channels[-1] * 2, channels[-1])
    levels = channels[1:] if config.pyramid == "p3-p5" else channels
    for fine, coarse in itertools.pairwise(levels):
        total += neck_block(config, fine + coarse, fine) + neck_block(config, fine + coarse, coarse)
        total += conv(fine, fine, 3)
    return total + head(levels, config.num_classes)


@pytest.mark.parametrize("row", ABLATION, ids=NAMES)
@pytest.mark.parametrize("size", ["n", "t"])
def test_parameters_equal_a_count_by_hand(row, size):
    config = row_config(row, size)
    assert count(config).parameters == by_hand(config)


@pytest.mark.parametrize("row", ABLATION, ids=NAMES)
def test_every_network_trains_in_all_its_parts(row):
    torch.manual_seed(0)
    detector = Detector(row_config(row, "n", num_classes=2))
    raw = detector(torch.rand(2, 3, 64, 64))
    assert [tuple(level.shape[1:]) for level in raw.levels] == [(66, 64 // s, 64 // s) for s in detector.strides]
    sum(level.square().sum() for level in raw.levels).backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_rows_are_different_networks():
    assert len(set(NAMES)) == len(NAMES)
    assert len({row_config(row, "t") for row in ABLATION}) == len(ABLATION)
    assert row_config(ABLATION[0], "t").stage_depths == (3, 3, 9, 3)


def test_any_subset_in_the_order_of_the_table():
    assert [row.name for row in chosen_rows(("v2", "mlp", "base"))] == ["base", "mlp", "v2"]
    assert chosen_rows(()) == list(ABLATION)


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown row 'c2f'; did you mean 'c2f-neck'"):
        chosen_rows(("base", "c2f"))


def test_layers_are_counted_as_the_paper_does():
    """Its figures lie between the convolution layers alone and 2 % more, which is what norms cost."""
    for size, printed in {"t": 14.3, "b": 49.7, "l": 156.2}.items():
        assert 1 <= printed / (count(row_config(ABLATION[0], size)).layer_flops / 1e9) < 1.02


def test_mismatches_are_named():
    v2 = chosen_rows(("v2",))[0]
    parameters, flops = mismatches(row_config(v2, "t"))
    assert parameters == "5.44 M parameters, the paper prints 5.8 M"
    assert flops.startswith("17.9 GFLOPs, the paper prints 13.2, which fits the convolution layers alone (13.0 ")
    assert "does not fit" in mismatches(row_config(v2, "l"))[1]
    assert [note for note in mismatches(row_config(v2, "b")) if "parameters" in note] == []
    assert mismatches(row_config(v2, "n")) == []


def test_papers_figures_are_not_those_of_another_initialisation():
    base, mamba = chosen_rows(("base", "mamba-init"))
    assert published(row_config(base, "t")).ap == 45.4
    assert published(row_config(mamba, "t")) is None
