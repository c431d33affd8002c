"""Masks of found objects: definition and Rust, pixels and run lengths, against torch's grid_sample in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import golden
from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops import decode_rle, encode_rle, instance_masks, instance_rles, nms_head

backends = pytest.mark.parametrize("backend", ["reference", "rust"])
UNDECIDED = 2e-5  # of the largest logit: nearer to zero, rounding decides


def exact_logits(coefs, protos, height, width, gain, left, top):
    """(N, H, W) float64."""
    logits = torch.einsum("nc,chw->nhw", coefs.double(), protos.double())[None]
    y = ((torch.arange(height) + 0.5).double() * gain + top) / 4 / protos.shape[1] * 2 - 1
    x = ((torch.arange(width) + 0.5).double() * gain + left) / 4 / protos.shape[2] * 2 - 1
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return torch.nn.functional.grid_sample(logits, places, padding_mode="border", align_corners=False)[0]


def assert_right(masks, objects, size, placing):
    coefs, protos, boxes = objects
    logits = exact_logits(coefs, protos, *size, *placing.values())
    assert masks.dtype == torch.uint8
    assert masks.shape == logits.shape
    x, y = torch.arange(size[1]).double(), torch.arange(size[0]).double()[:, None]
    for mask, logit, (x1, y1, x2, y2) in zip(masks, logits, boxes.double(), strict=True):
        touched = (x + 1 > x1.floor()) & (x < x2.ceil()) & (y + 1 > y1.floor()) & (y < y2.ceil())
        touched &= (x >= x1.floor()) & (y >= y1.floor())
        clear = ~touched | (logit.abs() > UNDECIDED * max(logits.abs().max(), 1e-30))
        assert torch.equal(mask[clear].bool(), (touched & (logit > 0))[clear])


def some_objects(rng, number, cells, size, channels=32):
    coefs = torch.randn(number, channels, generator=rng)
    noise = torch.randn(channels, *cells, generator=rng)
    protos = torch.nn.functional.avg_pool2d(noise, 3, 1, 1, count_include_pad=False)
    corners = (torch.rand(number, 2, 2, generator=rng) * 1.4 - 0.2) * torch.tensor([size[1], size[0]])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    return coefs, protos, boxes


@backends
@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.sampled_from([0.04, 0.31, 0.5, 1.0, 1.7, 6.0, 30.0]),
    st.sampled_from([0.0, 12.0, -3.5]),
)
@settings(max_examples=60, deadline=None)
def test_pixels_and_runs_equal_the_oracle(backend, seed, cells, size, gain, left):
    rng = torch.Generator().manual_seed(seed)
    objects = some_objects(rng, 4, cells, size, channels=1 + seed % 32)
    placing = {"gain": gain, "left": left, "top": 2.0}
    masks = instance_masks(*objects, *size, **placing, backend=backend)
    assert_right(masks, objects, size, placing)
    rles = instance_rles(*objects, *size, **placing, backend=backend)
    assert rles == [encode_rle(mask) for mask in masks]


@backends
def test_the_network_input_itself(backend):
    """Gain 1 without padding is the plain enlargement by 4."""
    rng = torch.Generator().manual_seed(0)
    coefs, protos, _ = some_objects(rng, 3, (10, 20), (40, 80))
    boxes = torch.tensor([[0.0, 0, 80, 40]] * 3)
    masks = instance_masks(coefs, protos, boxes, 40, 80, gain=1.0, left=0.0, top=0.0, backend=backend)
    logits = torch.einsum("nc,chw->nhw", coefs.double(), protos.double())[None]
    enlarged = torch.nn.functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[0]
    clear = enlarged.abs() > UNDECIDED * enlarged.abs().max()
    assert torch.equal(masks[clear].bool(), (enlarged > 0)[clear])
    assert masks.sum() > 1000


@backends
@pytest.mark.parametrize(
    ("size", "gain", "top"), [((64, 96), 1.0, 0.0), ((120, 250), 0.384, 8.96), ((30, 48), 2.0, 2.0)]
)
def test_recorded_coefficients_and_prototypes(backend, size, gain, top):
    """What the reference network said of its recorded input, as masks of pictures of several sizes."""
    recorded = golden("segment")
    (rows,) = nms_head(recorded["decoded"], conf_thr=0.0, iou_thr=0.7, num_classes=5, max_det=40)
    boxes = (rows[:, :4] - torch.tensor([0.0, top, 0.0, top])) / gain
    objects = rows[:, 6:], recorded["protos"][0], boxes
    placing = {"gain": gain, "left": 0.0, "top": top}
    masks = instance_masks(*objects, *size, **placing, backend=backend)
    assert len(masks) > 5
    assert 0 < masks.float().mean() < 1
    assert_right(masks, objects, size, placing)
    assert instance_rles(*objects, *size, **placing, backend=backend) == [encode_rle(mask) for mask in masks]


PLACING = {"gain": 1.0, "left": 0.0, "top": 0.0}
ONES = torch.ones(1, 1), torch.ones(1, 4, 4)


@backends
@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([0, 0, 16, 16], 256),
        ([3.2, 4.9, 7.0, 5.1], 4 * 2),
        ([-100, -100, 1e9, 1e9], 256),
        ([4, 4, 4, 9], 0),
        ([4.5, 4.5, 4.5, 4.5], 1),
        ([9, 4, 4, 9], 0),
        ([-8, -8, -1, -1], 0),
        ([16, 0, 20, 16], 0),
        ([-3e38, 0, 3e38, 16], 256),
    ],
)
def test_boxes_are_cut_to_whole_pixels_of_the_mask(backend, box, pixels):
    coefs, protos = ONES
    boxes = torch.tensor([box], dtype=torch.float32)
    masks = instance_masks(coefs, protos, boxes, 16, 16, **PLACING, backend=backend)
    assert int(masks.sum()) == pixels
    (rle,) = instance_rles(coefs, protos, boxes, 16, 16, **PLACING, backend=backend)
    assert torch.equal(decode_rle(rle), masks[0])


@backends
@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("number", [0, 3])
def test_nothing_to_find_and_odd_sizes(backend, size, number):
    objects = some_objects(torch.Generator().manual_seed(1), number, (5, 5), size)
    masks = instance_masks(*objects, *size, **PLACING, backend=backend)
    assert masks.shape == (number, *size)
    assert instance_rles(*objects, *size, **PLACING, backend=backend) == [encode_rle(mask) for mask in masks]


@backends
def test_views_and_other_float_types(backend):
    coefs, protos, boxes = some_objects(torch.Generator().manual_seed(2), 3, (8, 9), (30, 30))
    views = coefs.T.contiguous().T, protos.permute(1, 2, 0).contiguous().permute(2, 0, 1), boxes.repeat(1, 2)[:, :4]
    expected = instance_masks(coefs, protos, boxes, 30, 30, **PLACING, backend=backend)
    assert torch.equal(instance_masks(*views, 30, 30, **PLACING, backend=backend), expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        there = tuple(t.to(dtype) for t in (coefs, protos, boxes))
        back = tuple(t.float() for t in there)
        one, other = (instance_masks(*objects, 30, 30, **PLACING, backend=backend) for objects in (there, back))
        assert torch.equal(one, other)
    needing_gradients = coefs.clone().requires_grad_()
    assert torch.equal(instance_masks(needing_gradients, protos, boxes, 30, 30, **PLACING, backend=backend), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_prototypes_that_are_not_finite_leave_the_rest_alone(value):
    objects = some_objects(torch.Generator().manual_seed(3), 2, (12, 12), (48, 48))
    objects[1][:, 2, 3] = value
    boxes = torch.tensor([[0.0, 0, 48, 48]] * 2)
    masks = [instance_masks(*objects[:2], boxes, 48, 48, **PLACING, backend=b) for b in ("reference", "rust")]
    assert torch.equal(*masks)
    assert masks[0][:, 24:].any()
    assert instance_rles(*objects[:2], boxes, 48, 48, **PLACING) == [encode_rle(mask) for mask in masks[0]]


@backends
@pytest.mark.parametrize("call", [instance_masks, instance_rles])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"coefs": torch.zeros(2, 5)}, DetectionError, r"got \(2, 5\) and \(32, 6, 6\)"),
        ({"coefs": torch.zeros(64)}, DetectionError, r"shapes \(N, C\)"),
        ({"protos": torch.zeros(32, 1, 6)}, DetectionError, r"2 or more"),
        ({"protos": torch.zeros(1, 32, 6, 6)}, DetectionError, r"got .*\(1, 32, 6, 6\)"),
        ({"boxes_xyxy": torch.zeros(3, 4)}, DetectionError, r"shape \(2, 4\), got \(3, 4\)"),
        ({"boxes_xyxy": torch.full((2, 4), float("nan"))}, DetectionError, "boxes hold NaN"),
        ({"coefs": torch.full((2, 32), float("inf"))}, DetectionError, "coefs hold NaN or infinity"),
        ({"height": -1}, DetectionError, "-1 x 24 pixels"),
        ({"height": 2**62, "width": 2**62}, DetectionError, "limit of 178956970"),
        ({"height": 10**5, "width": 10**5}, DetectionError, "limit of 178956970"),
        ({"gain": 0.0}, ConfigError, "gain must be above 0"),
        ({"gain": float("nan")}, ConfigError, "gain must be above 0"),
        ({"gain": float("inf")}, ConfigError, "finite"),
        ({"top": float("inf")}, ConfigError, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(backend, call, changes, error, message):
    coefs, protos, boxes = some_objects(torch.Generator().manual_seed(4), 2, (6, 6), (24, 24))
    arguments = {"coefs": coefs, "protos": protos, "boxes_xyxy": boxes, "height": 24, "width": 24, **PLACING}
    with pytest.raises(error, match=message):
        call(**arguments | changes, backend=backend)
