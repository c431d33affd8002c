"""A folded detector computes what the original does, and follows it when its weights change."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from helpers import assert_close_to_scale
from mamba_yolo.models import PRESETS, build_detector, decode, fuse, fuse_once
from mamba_yolo.models.presets import VARIANTS

ABLATIONS = [
    {"downsampling": "conv"},
    {"neck_block": "c2f"},
    {"pyramid": "p2-p5"},
    *({"channel_mlp": mlp} for mlp in ("mlp", "conv_mlp", "res_conv_mlp", "gated_mlp")),
]


def detector_with_history(preset, **options):
    """Random weights, and batch norms that have seen other means and variances than 0 and 1."""
    torch.manual_seed(0)
    detector = build_detector(preset, num_classes=3, **options).eval()
    for norm in (m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        for t in (norm.bias, norm.running_mean):
            nn.init.normal_(t, std=0.2)
        norm.running_var.uniform_(0.5, 2)
    return detector


def assert_same_outputs(fused, detector):
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        ours, expected = fused(images), detector(images)
    for level, original in zip(ours.levels, expected.levels, strict=True):
        assert_close_to_scale(level, original, 1e-5)
    assert_close_to_scale(decode(ours), decode(expected), 1e-5)
    if expected.protos is not None:
        assert_close_to_scale(ours.protos, expected.protos, 1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_folded_gives_the_same(preset, variant):
    detector = detector_with_history(preset, variant=variant)
    assert_same_outputs(fuse(detector), detector)


@pytest.mark.parametrize("options", ABLATIONS, ids=lambda o: "-".join(o.values()))
def test_every_ablation_folded_gives_the_same(options):
    detector = detector_with_history("n", **options)
    assert_same_outputs(fuse(detector), detector)


def test_no_batch_norm_is_left_and_the_original_keeps_its_own():
    detector = detector_with_history("n-seg").train()
    before = copy.deepcopy(detector.state_dict())
    fused = fuse(detector)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())
    assert (fused.config, fused.strides) == (detector.config, detector.strides)
    assert detector.training
    assert all(p.requires_grad for name, p in detector.named_parameters() if name != "head.bins")
    for name, tensor in detector.state_dict().items():
        assert tensor.equal(before[name]), name


def test_folding_twice_changes_nothing_more():
    fused = fuse(detector_with_history("n"))
    for name, tensor in fuse(fused).state_dict().items():
        assert tensor.equal(fused.state_dict()[name]), name


def test_the_kept_copy_is_made_once_and_follows_the_weights():
    detector = detector_with_history("n")
    first = fuse_once(detector)
    assert fuse_once(detector) is first
    detector.load_state_dict(detector_with_history("n", initialization="mamba").state_dict())
    assert_same_outputs(fuse_once(detector), detector)
    with torch.no_grad():
        detector.backbone.stem.to_half.norm.running_mean.add_(1)
    assert_same_outputs(fuse_once(detector), detector)
    assert fuse_once(detector.double()).head.bins.dtype == torch.float64


def test_the_kept_copy_goes_with_its_detector():
    detector = detector_with_history("n")
    kept = weakref.ref(fuse_once(detector))
    del detector
    gc.collect()
    assert kept() is None
