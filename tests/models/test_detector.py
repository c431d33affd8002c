"""The detector as a whole: sizes, switches, inputs."""

import math

import pytest
import torch

from mamba_yolo.config import DetectorConfig
from mamba_yolo.errors import ConfigError, ShapeError
from mamba_yolo.models import PRESETS, Detector, build_detector, decode, preset_config

SMALL = {"width": 1 / 16, "num_classes": 5}


def small(**switches):
    torch.manual_seed(0)
    return Detector(DetectorConfig(**SMALL, **switches))


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "variant", "parameters"),
    [
        ("t", "v1", 6_131_704),
        ("b", "v1", 21_828_000),
        ("l", "v1", 57_631_024),
        ("t-seg", "v1", 6_384_472),
        ("n", "v1", 2_072_712),
        ("t", "v2", 5_442_612),
        ("b", "v2", 19_168_164),
        ("l", "v2", 49_227_952),
    ],
)
def test_parameter_count(name, variant, parameters):
    with torch.device("meta"):
        detector = build_detector(name, 80, variant)
    assert sum(p.numel() for p in detector.parameters()) == parameters


def test_only_the_bins_are_not_trained():
    fixed = [name for name, p in small().named_parameters() if not p.requires_grad]
    assert fixed == ["head.bins"]


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"downsampling": "conv"},
        {"local_spatial": False},
        {"channel_mlp": "mlp"},
        {"channel_mlp": "conv_mlp"},
        {"channel_mlp": "res_conv_mlp"},
        {"channel_mlp": "gated_mlp"},
        {"neck_block": "c2f"},
        {"pyramid": "p2-p5"},
        {"stage_depths": (3, 6, 6, 3)},
        {"initialization": "mamba"},
        {"state_size": 4},
        {"drop_path": 0.2, "dropout": 0.1},
        {"task": "segment"},
        {"task": "segment", "pyramid": "p2-p5"},
    ],
    ids=str,
)
def test_every_switch_runs_forward_and_backward(switches, images):
    detector = small(**switches)
    raw = detector(images.expand(2, -1, -1, -1))
    assert [level.shape[2] for level in raw.levels] == [64 // s for s in detector.strides]
    assert decode(raw).shape[1] == 4 + 5 + (32 if detector.config.task == "segment" else 0)
    outputs = [*raw.levels] if raw.protos is None else [*raw.levels, raw.mask_coefs, raw.protos]
    sum(output.square().sum() for output in outputs).backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert detector.config.drop_path or parameter.grad.abs().max() > 0, name


def test_switches_change_the_network():
    counts = {
        sum(p.numel() for p in small(**switches).parameters())
        for switches in ({}, {"downsampling": "conv"}, {"local_spatial": False}, {"channel_mlp": "mlp"})
    }
    assert len(counts) == 4


def test_segmentation_shapes(images):
    raw = small(task="segment")(images)
    assert raw.mask_coefs.shape == (1, 32, 64 + 16 + 4)
    assert raw.protos.shape == (1, 32, 16, 16)


def test_prototypes_stay_at_stride_4_with_a_finer_level(images):
    raw = small(task="segment", pyramid="p2-p5")(images)
    assert raw.protos.shape == (1, 32, 16, 16)
    assert raw.mask_coefs.shape[2] == 256 + 64 + 16 + 4


def test_memory_format_of_the_input_changes_nothing(images):
    detector = small().eval()
    with torch.inference_mode():
        first = detector(images)
        second = detector(images.contiguous(memory_format=torch.channels_last))
    for a, b in zip(first.levels, second.levels, strict=True):
        assert a.equal(b)


def test_image_of_a_batch_does_not_depend_on_the_others(images):
    detector = small().eval()
    with torch.inference_mode():
        alone = detector(images).levels[0]
        together = detector(torch.cat([torch.rand_like(images), images])).levels[0][1:]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


def test_float64(images):
    detector = small().eval()
    with torch.inference_mode():
        narrow = detector(images)
        wide = detector.double()(images.double())
    assert wide.levels[0].dtype == torch.float64
    for a, b in zip(narrow.levels, wide.levels, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


def test_autocast_trains(images):
    detector = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = detector(images.expand(2, -1, -1, -1))
    sum(level.float().square().sum() for level in raw.levels).backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.requires_grad)


def test_empty_batch():
    raw = small().eval()(torch.rand(0, 3, 64, 32))
    assert decode(raw).shape == (0, 9, 42)


def test_state_dict_round_trip(images):
    first, second = small().eval(), small(initialization="mamba").eval()
    second.load_state_dict(first.state_dict())
    with torch.inference_mode():
        assert first(images).levels[0].equal(second(images).levels[0])


def test_same_seed_same_weights():
    first, second = small().state_dict(), small().state_dict()
    assert all(first[key].equal(second[key]) for key in first)


def test_first_biases_expect_few_objects():
    head = small().head
    for level, stride in enumerate((8, 16, 32)):
        expected = math.log(5 / 5 / (640 / stride) ** 2)
        assert head.class_branches[level][2].bias.tolist() == pytest.approx([expected] * 5)
        assert (head.box_branches[level][2].bias == 1).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 64, 65), "multiples of 32, got 64 x 65"),
        ((1, 3, 16, 64), "multiples of 32, got 16 x 64"),
        ((1, 3, 0, 64), "multiples of 32, got 0 x 64"),
        ((1, 1, 64, 64), r"shape \(B, 3, H, W\), got \(1, 1, 64, 64\)"),
        ((3, 64, 64), r"shape \(B, 3, H, W\), got \(3, 64, 64\)"),
    ],
)
def test_wrong_shape(shape, message):
    with pytest.raises(ShapeError, match=message):
        small()(torch.rand(shape))


def test_bytes_are_not_images_yet():
    with pytest.raises(ValueError, match="divide by 255"):
        small()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_export_keeps_the_outputs(images):
    detector = small().eval()
    with torch.no_grad():
        program = torch.export.export(detector, (images,))
        exported = program.module()(images)
        expected = detector(images)
    torch.testing.assert_close(exported.levels[0], expected.levels[0])


def test_presets_have_names():
    assert "mamba-yolo-t" in PRESETS
    assert "mamba-yolo-n-seg" in PRESETS
    assert preset_config("mamba-yolo-t-seg").task == "segment"
    assert preset_config("t", task="segment") == preset_config("t-seg")
    assert preset_config("l").max_channels == 768


def test_variants():
    assert preset_config("t").stage_depths == (3, 3, 9, 3)
    assert preset_config("t", variant="v2").stage_depths == (3, 6, 6, 3)
    assert not preset_config("t", variant="v2").local_spatial


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown model 'mamba-yolo-tt'; did you mean 'mamba-yolo-t'"):
        build_detector("mamba-yolo-tt")


def test_unknown_variant():
    with pytest.raises(ConfigError, match="variant must be one of v1, v2, got 'v3'"):
        preset_config("t", variant="v3")


def test_unknown_override_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'channel_mlp'"):
        build_detector("n", chanel_mlp="rg")
