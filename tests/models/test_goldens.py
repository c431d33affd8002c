"""The network equals the recorded reference, layer by layer."""

import pytest
import torch

from helpers import assert_close_to_scale, golden, golden_weights
from mamba_yolo.models import Detector, decode, fuse
from mamba_yolo.models.official import config_from_official, convert_state_dict

# Of a layer's scale. The recorded float32 outputs are themselves up to 5.4e-5 from this network in float64.
TOLERANCE = 6e-5
TWO_ROUNDINGS = 1e-4  # where ours and the recorded one round in opposite directions: the prototypes
LAYERS = {
    "layer0": "backbone.stem",
    "layer1": "backbone.stages.0",
    "layer2": "backbone.downsamples.0",
    "layer8": "backbone.pooling",
    "layer14": "neck.top_down.1",
    "layer17": "neck.bottom_up.0",
    "layer20": "neck.bottom_up.1",
}


def golden_detector(task, *, fused=False):
    official = golden_weights(task)
    detector = Detector(config_from_official(official)).eval()
    detector.load_state_dict(convert_state_dict(official))
    return fuse(detector) if fused else detector


def assert_decoded_close(decoded, expected):
    boxes, probabilities, coefs = slice(0, 4), slice(4, 9), slice(9, None)
    assert_close_to_scale(decoded[:, boxes], expected[:, boxes], TOLERANCE)
    torch.testing.assert_close(decoded[:, probabilities], expected[:, probabilities], rtol=5e-4, atol=TOLERANCE)
    if expected.shape[1] > coefs.start:
        assert_close_to_scale(decoded[:, coefs], expected[:, coefs], TOLERANCE)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def detect_run(request):
    detector, seen = golden_detector("detect", fused=request.param), {}
    for name, path in LAYERS.items():
        detector.get_submodule(path).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with torch.inference_mode():
        seen["raw"] = detector(golden("detect")["input"])
    return seen


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_golden(detect_run, name):
    assert_close_to_scale(detect_run[name], golden("detect")[name], TOLERANCE)


@pytest.mark.parametrize("level", range(3))
def test_raw_level_equals_golden(detect_run, level):
    assert_close_to_scale(detect_run["raw"].levels[level], golden("detect")[f"raw.{level}"], TOLERANCE)


def test_decoded_equals_golden(detect_run):
    assert_decoded_close(decode(detect_run["raw"]), golden("detect")["decoded"])


def test_float64_is_as_close_as_float32_allows():
    expected = golden("detect")
    with torch.inference_mode():
        raw = golden_detector("detect").double()(expected["input"].double())
    for level in range(3):
        assert raw.levels[level].dtype == torch.float64
        assert_close_to_scale(raw.levels[level], expected[f"raw.{level}"], TOLERANCE)


@pytest.mark.parametrize("fused", [False, True])
def test_segmentation_equals_golden(fused):
    expected = golden("segment")
    with torch.inference_mode():
        raw = golden_detector("segment", fused=fused)(expected["input"])
        decoded = decode(raw)
    for level in range(3):
        assert_close_to_scale(raw.levels[level], expected[f"raw.{level}"], TOLERANCE)
    assert_close_to_scale(raw.mask_coefs, expected["mask_coefs"], TOLERANCE)
    assert_close_to_scale(raw.protos, expected["protos"], TWO_ROUNDINGS)
    assert_decoded_close(decoded, expected["decoded"])


def test_segmentation_is_within_one_rounding_of_float64():
    """The recorded outputs and ours, each against the exact network: neither hides behind the other."""
    expected, detector = golden("segment"), golden_detector("segment")
    with torch.inference_mode():
        ours = detector(expected["input"])
        exact = detector.double()(expected["input"].double())
    for level in range(3):
        assert_close_to_scale(exact.levels[level], expected[f"raw.{level}"], TOLERANCE)
        assert_close_to_scale(ours.levels[level], exact.levels[level], TOLERANCE)
    for name in ("mask_coefs", "protos"):
        assert_close_to_scale(getattr(exact, name), expected[name], TOLERANCE)
        assert_close_to_scale(getattr(ours, name), getattr(exact, name), TOLERANCE)
