"""How predict and val run the network: folded, in the number format asked for, refused where that is not to be had."""

import pytest
import torch

from engine.tiny import TinyDataset, TinyLoader
from mamba_yolo.config import PredictConfig, ValConfig
from mamba_yolo.engine import inference
from mamba_yolo.engine.inference import Network, has_bfloat16
from mamba_yolo.engine.predict import predict
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import BackendError, ConfigError
from mamba_yolo.models import build_detector

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return build_detector("n-seg", num_classes=2).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def every(raw):
    return [*raw.levels, raw.mask_coefs, raw.protos]


@torch.inference_mode()
def test_bfloat16_is_close_and_hands_out_float32(detector, images, monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda device: True)
    for ours, exact in zip(every(Network(detector, "bfloat16")(images)), every(detector(images)), strict=True):
        assert ours.dtype == torch.float32
        assert 1e-4 < (ours - exact).abs().max() / exact.abs().max() < 0.1


@torch.inference_mode()
def test_float32_is_the_detector(detector, images):
    for ours, exact in zip(every(Network(detector, "float32")(images)), every(detector(images)), strict=True):
        assert (ours - exact).abs().max() / exact.abs().max() < 1e-5


def test_without_instructions_bfloat16_is_refused_before_the_first_image(detector, monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda device: False)
    with pytest.raises(BackendError, match="bfloat16 needs instructions that this cpu lacks; use dtype=float32"):
        predict(detector, {}, "nowhere.jpg", PredictConfig(dtype="bfloat16"))
    with pytest.raises(BackendError, match="use dtype=float32"):
        validate(detector, TinyLoader(TinyDataset(2), train=False), dtype="bfloat16")


@pytest.mark.parametrize(("flag", "expected"), [(True, True), (False, False)])
def test_an_x86_cpu_is_asked_for_its_instructions_not_for_emulation(flag, expected, monkeypatch):
    monkeypatch.setattr(inference.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: flag)
    assert has_bfloat16(CPU) is expected


@pytest.mark.parametrize("config", [PredictConfig, ValConfig])
def test_other_dtypes_are_named_wrong(config):
    with pytest.raises(ConfigError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        config(dtype="float16")
