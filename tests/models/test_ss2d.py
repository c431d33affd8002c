"""SS2D: its formula, its initialisations, and that no token is copied."""

import math

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, softplus

import mamba_yolo.models.ss2d as module_under_test
from mamba_yolo.models.ss2d import SS2D


def direct_ss2d(block, x):
    """The formula in float64, one direction, one token and one state vector at a time."""
    block, x = block.double(), x.double()
    (_, _, height, width), inner = x.shape, block.Ds.numel() // 4
    num_states = block.A_logs.shape[1]
    y, gate = block.in_proj(x).split(inner, dim=1)
    y = gelu(conv2d(y, block.depthwise.weight, block.depthwise.bias, padding=1, groups=y.shape[1]))
    cells = [(r, c) for r in range(height) for c in range(width)]
    columns = [(r, c) for c in range(width) for r in range(height)]
    out = torch.zeros_like(y)
    for k, order in enumerate([cells, columns, cells[::-1], columns[::-1]]):
        a = -torch.exp(block.A_logs.view(4, inner, num_states)[k])
        h = torch.zeros(len(x), inner, num_states, dtype=torch.float64)
        for r, c in order:
            u = y[:, :, r, c]
            projected = u @ block.x_proj_weight[k].T
            dt, b_in, c_out = projected.split([projected.shape[1] - 2 * num_states, num_states, num_states], dim=1)
            step = softplus(dt @ block.dt_projs_weight[k].T + block.dt_projs_bias[k])
            h = torch.exp(step[..., None] * a) * h + (step * u)[..., None] * b_in[:, None]
            out[:, :, r, c] += (h * c_out[:, None]).sum(-1) + block.Ds.view(4, inner)[k] * u
    tokens = layer_norm(out.permute(0, 2, 3, 1), (inner,), block.out_norm.weight, block.out_norm.bias, 1e-5)
    return block.out_proj(tokens.permute(0, 3, 1, 2) * gelu(gate))


@pytest.mark.parametrize("initialization", ["release", "mamba"])
def test_equals_the_formula(initialization):
    torch.manual_seed(0)
    block, x = SS2D(24, 5, initialization=initialization), torch.randn(2, 24, 3, 4)
    with torch.no_grad():
        got = block(x)
        expected = direct_ss2d(block, x)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_the_channels_last_map_itself(monkeypatch):
    block = SS2D(16).eval()
    maps, tokens = [], []
    block.depthwise.register_forward_hook(lambda _m, _i, out: maps.append(out))
    monkeypatch.setattr(module_under_test, "ss2d_norm_gate", lambda x, *_: tokens.append(x) or x)
    block(torch.randn(2, 16, 4, 6).contiguous(memory_format=torch.channels_last))
    assert tokens[0].shape == (2, 24, 32)
    assert tokens[0].is_contiguous()
    assert tokens[0].data_ptr() == maps[0].data_ptr()


def test_release_initialization():
    torch.manual_seed(0)
    block = SS2D(256, 16)
    assert block.dt_projs_weight.std().item() == pytest.approx(1, abs=0.02)
    assert block.dt_projs_bias.std().item() == pytest.approx(1, abs=0.05)
    assert block.A_logs.abs().max() == 0
    assert (block.Ds == 1).all()
    bound = 512**-0.5
    assert block.x_proj_weight.abs().max() <= bound
    assert block.x_proj_weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_mamba_initialization():
    torch.manual_seed(0)
    block = SS2D(256, 16, initialization="mamba")
    torch.testing.assert_close(-torch.exp(block.A_logs[7]), -torch.arange(1.0, 17))
    steps = softplus(block.dt_projs_bias)
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 1e-1 * 1.001
    assert steps.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.1)
    assert block.dt_projs_weight.abs().max() <= 16**-0.5
    assert (block.Ds == 1).all()


def test_rank_is_rounded_up():
    assert SS2D(17).dt_projs_weight.shape == (4, 34, 2)
