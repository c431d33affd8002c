"""Weights from the official format to ours and back, through files."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from helpers import assert_close_to_scale, golden, golden_weights, shared
from mamba_yolo import MambaYOLO
from mamba_yolo.engine.bridge import convert_weights
from mamba_yolo.engine.checkpoint import load, load_model
from mamba_yolo.errors import CheckpointError, ConfigError, MissingFileError
from mamba_yolo.models import build_detector, decode
from mamba_yolo.models.official import convert_state_dict, export_state_dict
from official_files import official_bytes

NAMES = {0: "thrips", 1: "aphid", 2: "mite"}
OF_SCALE = 6e-5  # the recorded outputs are up to 5.4e-5 from the same network in float64


def official_file(path, preset="n", names=NAMES, seed=0, **options):
    torch.manual_seed(seed)
    detector = build_detector(preset, len(names))
    state = export_state_dict(detector.state_dict())
    path.write_bytes(official_bytes(state, names, detector.config.task, **options))
    return {key: t.half().float() if t.is_floating_point() else t for key, t in state.items()}


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_golden_file_becomes_ours_with_equal_outputs(task, tmp_path):
    convert_weights(shared(f"goldens/official_width_1_16_{task}.pt"), tmp_path / "ours.safetensors")
    expected, detector = golden(task), load_model(tmp_path / "ours.safetensors").detector
    with torch.inference_mode():
        raw = detector(expected["input"])
    for level in range(3):
        assert_close_to_scale(raw.levels[level], expected[f"raw.{level}"], OF_SCALE)
    torch.testing.assert_close(decode(raw), expected["decoded"], rtol=1e-3, atol=1e-3)
    if task == "segment":
        assert_close_to_scale(raw.mask_coefs, expected["mask_coefs"], OF_SCALE)
        assert_close_to_scale(raw.protos, expected["protos"], 1e-4)  # two roundings, opposite each other


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_golden_file_comes_back_bit_for_bit(task, tmp_path):
    convert_weights(shared(f"goldens/official_width_1_16_{task}.pt"), tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "official.safetensors")
    back, expected = load_file(tmp_path / "official.safetensors"), golden_weights(task)
    assert back.keys() == expected.keys()
    assert all(back[key].equal(expected[key]) and back[key].dtype == expected[key].dtype for key in expected)


@pytest.mark.parametrize("preset", ["n", "t-seg"])
def test_a_fork_with_three_classes(preset, tmp_path):
    state = official_file(tmp_path / "fork.pt", preset, train_args={"imgsz": 416})
    convert_weights(tmp_path / "fork.pt", tmp_path / "ours.safetensors")
    ours = load(tmp_path / "ours.safetensors")
    assert (ours.names, ours.imgsz, ours.arch) == (NAMES, 416, build_detector(preset, 3).config)
    assert all(ours.weights[key].equal(t) for key, t in convert_state_dict(state).items())
    assert MambaYOLO(tmp_path / "fork.pt").names == NAMES


def test_averaged_weights_are_preferred(tmp_path):
    raw = official_file(tmp_path / "raw.pt", seed=1)
    averaged = official_file(tmp_path / "averaged.pt", seed=2)
    official_file(tmp_path / "both.pt", seed=1, ema=averaged)
    for name, expected in (("raw", raw), ("averaged", averaged), ("both", averaged)):
        got = convert_weights(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors").weights
        assert all(got[key].equal(t) for key, t in convert_state_dict(expected).items()), name


def test_parameters_with_attributes_are_read(tmp_path):
    def mark(root):
        for parameter in root.parameters():
            parameter._no_weight_decay = True

    official_file(tmp_path / "marked.pt", change=mark)
    assert convert_weights(tmp_path / "marked.pt", tmp_path / "ours.safetensors").names == NAMES


@pytest.mark.parametrize("imgsz", [[640, 480], 0, 33, 2**40, "640", None])
def test_an_odd_image_size_is_not_taken_over(imgsz, tmp_path):
    official_file(tmp_path / "fork.pt", train_args={"imgsz": imgsz})
    assert convert_weights(tmp_path / "fork.pt", tmp_path / "ours.safetensors").imgsz == 640


def test_what_the_official_file_says_about_itself(tmp_path):
    official_file(tmp_path / "fork.pt")
    convert_weights(tmp_path / "fork.pt", tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "back.safetensors")
    with safe_open(tmp_path / "back.safetensors", framework="pt") as file:
        facts = file.metadata()
    assert json.loads(facts["names"]) == {"0": "thrips", "1": "aphid", "2": "mite"}
    assert (facts["task"], facts["imgsz"], facts["format"]) == ("detect", "640", "pt")


def test_bad_targets_and_sources(tmp_path):
    official_file(tmp_path / "fork.pt")
    with pytest.raises(ConfigError, match=r"weights are written as \.safetensors, got target 'a\.pt'"):
        convert_weights(tmp_path / "fork.pt", "a.pt")
    (tmp_path / "taken.safetensors").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"taken\.safetensors exists already"):
        convert_weights(tmp_path / "fork.pt", tmp_path / "taken.safetensors")
    assert (tmp_path / "taken.safetensors").read_bytes() == b"precious"
    with pytest.raises(MissingFileError, match=r"none\.pt: no such file"):
        convert_weights(tmp_path / "none.pt", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="cut short"):
        convert_weights(tmp_path / "taken.safetensors", tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
