"""Receptive fields, responses of scan directions and class activation against what must be true of them."""

import pytest
import torch
from torch import nn

from mamba_yolo.errors import ShapeError
from mamba_yolo.models.attribution import class_activation, direction_responses, receptive_field, side_holding
from mamba_yolo.models.ss2d import SS2D
from mamba_yolo.ops import ss2d_scan
from mamba_yolo.ops.scan_ref import ss2d_scan_ref

HEIGHT, WIDTH, CHANNELS = 5, 7, 4


def images(batch=2, side=32):
    return torch.rand(batch, 3, side, side, requires_grad=True)


# Receptive fields -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 2), (3, 4)])
def test_field_of_one_convolution_is_its_window(kernel, stride):
    x = images()
    conv = nn.Conv2d(3, 6, kernel, stride, padding=kernel // 2)
    nn.init.uniform_(conv.weight, 0.1, 1.0)
    y = conv(x)
    centre, half = y.shape[2] // 2 * stride, kernel // 2
    expected = torch.zeros(32, 32)
    window = slice(centre - half, centre + half + 1)
    expected[window, window] = conv.weight.sum(dim=0).abs().sum(dim=0)
    torch.testing.assert_close(receptive_field(y, x), expected)


def test_field_is_the_mean_over_images():
    x = images()
    y = x.square()
    expected = torch.zeros(32, 32)
    expected[16, 16] = (2 * x.detach()[:, :, 16, 16]).sum(dim=1).mean()
    torch.testing.assert_close(receptive_field(y, x), expected)


def test_fields_of_several_maps_of_one_graph():
    x = images()
    first = nn.Conv2d(3, 4, 3, padding=1)(x)
    second = nn.Conv2d(4, 4, 3, padding=1)(first)
    assert (receptive_field(first, x) > 0).sum() == 9
    assert (receptive_field(second, x) > 0).sum() == 25


@pytest.mark.parametrize(("share", "side"), [(0.0, 1), (0.5, 5), (24.9 / 49, 5), (25.1 / 49, 7), (1.0, 7)])
def test_square_that_holds_a_share(share, side):
    field = torch.zeros(20, 20)
    field[7:14, 7:14] = 1
    assert side_holding(share, field, 10) == side


def test_a_share_near_the_border_and_of_nothing():
    field = torch.zeros(8, 8)
    field[0, 0] = 1
    assert side_holding(0.5, field, 4) == 9
    assert side_holding(0.5, torch.zeros(8, 8), 4) == 1


# Directions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ss2d():
    torch.manual_seed(0)
    return SS2D(CHANNELS, state_size=4).eval()


def impulse(row, column):
    """A map of scan tokens that is zero but for one cell, and the same projection everywhere."""
    x = torch.zeros(1, 2 * CHANNELS, HEIGHT, WIDTH)
    x[:, :, row, column] = 1
    return x


class OneCell(SS2D):
    """Scans its input itself, so that a test can place a single token."""

    def scan_arguments(self, x):
        (_, proj, *weights), gate = super().scan_arguments(torch.ones(1, CHANNELS, HEIGHT, WIDTH))
        return (x.permute(0, 2, 3, 1).flatten(1, 2), proj, *weights), gate


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 3), (4, 6)])
def test_each_direction_answers_only_behind_the_cell_it_met(row, column):
    torch.manual_seed(0)
    responses = direction_responses(OneCell(CHANNELS, state_size=4).eval(), impulse(row, column))[0]
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    row_major, column_major = rows * WIDTH + columns, columns * HEIGHT + rows
    here = row_major[row, column], column_major[row, column]
    reached = [row_major >= here[0], column_major >= here[1], row_major <= here[0], column_major <= here[1]]
    for k in range(4):
        assert torch.equal(responses[k] > 0, reached[k]), k


def test_directions_and_skip_are_the_whole_scan(ss2d):
    x = torch.randn(2, CHANNELS, HEIGHT, WIDTH)
    (tokens, proj, dt_weight, dt_bias, A_logs, Ds, height, width), _ = ss2d.scan_arguments(x)
    parts = proj.unflatten(2, (4, -1))
    total = tokens * Ds.unflatten(0, (4, -1)).sum(dim=0)
    for k in range(4):
        only = torch.zeros_like(parts)
        only[:, :, k] = parts[:, :, k]
        total = total + ss2d_scan_ref(
            tokens, only.flatten(2), dt_weight, dt_bias, A_logs, torch.zeros_like(Ds), height, width
        )
    whole = ss2d_scan(tokens, proj, dt_weight, dt_bias, A_logs, Ds, height, width)
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)


def test_response_is_the_size_of_one_directions_output(ss2d):
    x = torch.randn(1, CHANNELS, HEIGHT, WIDTH)
    (tokens, proj, dt_weight, dt_bias, A_logs, Ds, height, width), _ = ss2d.scan_arguments(x)
    parts = proj.unflatten(2, (4, -1)).clone()
    parts[:, :, [0, 1, 3], -4:] = 0  # C of all others
    alone = ss2d_scan_ref(tokens, parts.flatten(2), dt_weight, dt_bias, A_logs, 0 * Ds, height, width)
    expected = alone.square().mean(dim=2).sqrt().unflatten(1, (height, width))
    torch.testing.assert_close(direction_responses(ss2d, x)[:, 2], expected.detach(), rtol=1e-4, atol=1e-6)


def test_directions_of_a_turned_map_are_exchanged(ss2d):
    """With the same weights in all directions, transposing exchanges rows and columns, turning reverses."""
    with torch.no_grad():
        for p in (ss2d.x_proj_weight, ss2d.dt_projs_weight, ss2d.dt_projs_bias):
            p.copy_(p[:1].expand_as(p))
        for p in (ss2d.A_logs, ss2d.Ds):
            p.copy_(p.unflatten(0, (4, -1))[:1].expand(4, *p.unflatten(0, (4, -1)).shape[1:]).flatten(0, 1))
        ss2d.depthwise.weight.fill_(0.1)
    x = torch.randn(1, CHANNELS, HEIGHT, WIDTH)
    plain, transposed, turned = (direction_responses(ss2d, m)[0] for m in (x, x.mT.contiguous(), x.flip(2, 3)))
    torch.testing.assert_close(transposed, plain[[1, 0, 3, 2]].mT)
    torch.testing.assert_close(turned, plain[[2, 3, 0, 1]].flip(1, 2))


# Class activation -------------------------------------------------------------------------------------------------


def test_activation_is_feature_times_gradient():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]]], requires_grad=True)
    score = (maps[0, 0] * torch.tensor([[1.0, 1.0], [-1.0, 1.0]])).sum() - maps[0, 1, 1, 1]
    expected = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    torch.testing.assert_close(class_activation(score, [maps], (2, 2)), expected)


def test_every_level_gives_what_its_cells_give():
    fine, coarse = (torch.rand(1, 3, n, n, requires_grad=True) for n in (8, 2))
    score = fine[0, :, 1, 6].sum() + coarse[0, :, 1, 0].sum()
    activation = class_activation(score, [fine, coarse], (32, 32))
    assert activation.shape == (32, 32)
    assert activation[4:8, 24:28].sum() > 0.3 * fine[0, :, 1, 6].sum()
    torch.testing.assert_close(activation.sum(), score.detach(), rtol=0.2, atol=0)
    assert activation[:4, :16].max() == 0


def test_a_score_must_be_one_number():
    maps = torch.rand(1, 3, 4, 4, requires_grad=True)
    with pytest.raises(ShapeError, match=r"score must be a scalar, got shape \(1, 3, 4\)"):
        class_activation(maps.sum(dim=3), [maps], (8, 8))
