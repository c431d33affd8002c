"""Blocks against their formulas, written with functions only."""

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, max_pool2d, silu

from mamba_yolo.errors import ShapeError
from mamba_yolo.models.blocks import C2f, ConvMlp, GatedMlp, Mlp, ResConvMlp, RGBlock, VisionClueMerge
from mamba_yolo.models.layers import SPPF, ConvNormAct, DropPath, LayerNorm2d


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 8, 6, 4)


def pointwise(x, layer):
    return torch.einsum("bchw,oc->bohw", x, layer.weight[:, :, 0, 0]) + layer.bias[:, None, None]


def local(x, layer):
    return conv2d(x, layer.weight, layer.bias, padding=1, groups=x.shape[1])


def test_channel_mlps_compute_their_formulas(x):
    mlp = Mlp(8)
    torch.testing.assert_close(mlp(x), pointwise(gelu(pointwise(x, mlp.hidden)), mlp.out))
    mlp = ConvMlp(8)
    torch.testing.assert_close(mlp(x), pointwise(gelu(local(pointwise(x, mlp.hidden), mlp.depthwise)), mlp.out))
    mlp = ResConvMlp(8)
    h = pointwise(x, mlp.hidden)
    torch.testing.assert_close(mlp(x), pointwise(gelu(local(h, mlp.depthwise) + h), mlp.out))
    mlp = GatedMlp(8)
    h, v = pointwise(x, mlp.hidden).split(21, dim=1)
    torch.testing.assert_close(mlp(x), pointwise(gelu(h) * v, mlp.out))
    mlp = RGBlock(8)
    h, v = pointwise(x, mlp.hidden).split(21, dim=1)
    torch.testing.assert_close(mlp(x), pointwise(gelu(local(h, mlp.depthwise) + h) * v, mlp.out))


def test_c2f_joins_every_intermediate_map(x):
    layer = C2f(8, 12, 2).eval()

    def conv_norm_silu(x, part):
        return silu(part.norm(conv2d(x, part.conv.weight, padding=part.conv.kernel_size[0] // 2)))

    kept, passed = conv_norm_silu(x, layer.split).split(6, dim=1)
    first = conv_norm_silu(conv_norm_silu(passed, layer.bottlenecks[0][0]), layer.bottlenecks[0][1])
    second = conv_norm_silu(conv_norm_silu(first, layer.bottlenecks[1][0]), layer.bottlenecks[1][1])
    torch.testing.assert_close(layer(x), conv_norm_silu(torch.cat([kept, passed, first, second], 1), layer.join))


def test_layer_norm_is_over_channels(x):
    norm = LayerNorm2d(8)
    torch.nn.init.normal_(norm.weight)
    expected = layer_norm(x.permute(0, 2, 3, 1), (8,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_clue_merge_mixes_own_cell_below_right_and_diagonal(x):
    layer = VisionClueMerge(8, 16).eval()
    phases = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    expected = silu(layer.merge.norm(pointwise(torch.cat(phases, dim=1), layer.merge.conv)))
    torch.testing.assert_close(layer(x), expected)


def test_clue_merge_refuses_odd_maps():
    with pytest.raises(ShapeError, match="even sides, got 5 x 4"):
        VisionClueMerge(8, 16)(torch.zeros(1, 8, 5, 4))


def test_convolution_has_the_norm_of_the_release():
    layer = ConvNormAct(8, 8, 3)
    assert (layer.norm.eps, layer.norm.momentum) == (1e-3, 0.03)
    assert layer.conv.bias is None


def test_pooling_sees_5_9_and_13_cells():
    torch.manual_seed(0)
    x, pooling = torch.randn(1, 8, 16, 16), SPPF(8).eval()
    y = pooling.reduce(x)
    windows = [y, *(max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13))]
    torch.testing.assert_close(pooling(x), silu(pooling.expand.norm(pooling.expand.conv(torch.cat(windows, 1)))))


def test_drop_path_keeps_the_mean_in_training_and_everything_otherwise():
    torch.manual_seed(0)
    x, drop = torch.ones(20_000, 2), DropPath(0.3)
    y = drop(x)
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert y[:, 0].equal(y[:, 1])
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert drop.eval()(x).equal(x)
