"""Weights files: round trips, and everything that is not one of ours."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine import tiny
from helpers import shared
from mamba_yolo.config import DetectorConfig
from mamba_yolo.engine import checkpoint
from mamba_yolo.engine.checkpoint import Checkpoint, ResumeState, load, load_model, save
from mamba_yolo.errors import CheckpointError, ConfigError, MissingFileError

ARCH = DetectorConfig(width=1 / 16, num_classes=2, stage_depths=(1, 1, 1, 1))


def small(**values):
    defaults = {"arch": ARCH, "names": {0: "a", 1: "ü"}, "weights": {"w": torch.randn(3, 2), "n": torch.tensor(7)}}
    return Checkpoint(**(defaults | values))


def resume_state():
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.randn(3, 2)}
    return ResumeState(
        model={"w": torch.randn(3, 2)}, optimizer={0: moments, 11: moments}, random={"cpu": torch.get_rng_state()},
        scaler={}, loader={"epoch": 3}, config={"epochs": 5, "augment": {"hsv_h": 0.1}}, epoch=3, step=7,
        ema_updates=19, best_fitness=0.123456789012345678, best_epoch=2, seconds=1.5,
    )  # fmt: skip


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if dataclasses.is_dataclass(a):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return a == b


@pytest.mark.parametrize("resume", [None, "state"])
def test_round_trip(tmp_path, resume):
    original = small(figures={"map50": 0.1}, imgsz=320, training_set="x", resume=resume and resume_state())
    save(tmp_path / "a.safetensors", original)
    assert equal(original, load(tmp_path / "a.safetensors"))


def test_metadata_is_json_that_others_can_read(tmp_path):
    save(tmp_path / "a.safetensors", small(license="MIT"))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == ["n", "w"]
    assert metadata["format"] == "mamba-yolo"
    assert json.loads(metadata["names"]) == {"0": "a", "1": "ü"}
    assert json.loads(metadata["arch"])["stage_depths"] == [1, 1, 1, 1]
    assert {json.loads(metadata[k]) for k in ("task", "license", "version")} >= {"detect", "MIT"}


def test_layouts_and_shared_storage_are_saved_by_value(tmp_path):
    image_like = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    whole = torch.randn(10)
    save(tmp_path / "a.safetensors", small(weights={"cl": image_like, "part": whole[:5], "whole": whole}))
    weights = load(tmp_path / "a.safetensors").weights
    assert torch.equal(weights["cl"], image_like)
    assert torch.equal(weights["part"], whole[:5])


def test_file_can_be_replaced_after_reading(tmp_path):
    save(tmp_path / "a.safetensors", small())
    first = load(tmp_path / "a.safetensors")
    kept = first.weights["w"].clone()
    (tmp_path / "a.safetensors").write_bytes(b"\0" * 2000)
    assert torch.equal(first.weights["w"], kept)


def broken(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    save(path, small())
    if kind == "text":
        path.write_text("not weights at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif kind == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    else:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        change = {"schema": {"schema": "2"}, "names": {"names": "{"}, "arch": {"arch": '{"widht": 1}'}}[kind]
        save_file({"x": torch.zeros(1)}, path, metadata | change)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "not a safetensors file, or cut short"),
        ("empty", "not a safetensors file, or cut short"),
        ("truncated", "not a safetensors file, or cut short"),
        ("foreign", "not of mamba-yolo"),
        ("schema", "schema 2, this version reads 1"),
        ("names", "damaged metadata"),
        ("arch", "damaged metadata.*widht"),
    ],
)
def test_refused_in_one_line(tmp_path, kind, says):
    with pytest.raises(CheckpointError, match=says) as info:
        load(broken(tmp_path, kind))
    assert "\n" not in str(info.value)
    assert "a.safetensors" in str(info.value)


def test_missing(tmp_path):
    with pytest.raises(MissingFileError, match="no such weights file"):
        load(tmp_path / "a.safetensors")


def test_full_disk_for_real(tmp_path):
    """A file-size limit stands for the full disk: the writer inside safetensors fails half way."""
    pytest.importorskip("resource")
    path = tmp_path / "a.safetensors"
    save(path, small())
    before = path.read_bytes()
    script = f"""
import resource, signal
from pathlib import Path
import torch
from mamba_yolo.config import DetectorConfig
from mamba_yolo.engine.checkpoint import Checkpoint, save
from mamba_yolo.errors import SaveError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save({str(path)!r}, Checkpoint(DetectorConfig(), {{}}, {{"w": torch.zeros(1_000_000)}}))
except SaveError as error:
    assert "cannot save" in str(error), error
else:
    raise AssertionError("saved")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class TestLoadModel:
    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "Detector", tiny.TinyDetector)
        torch.manual_seed(3)
        save(tmp_path / "a.safetensors", small(weights=tiny.TinyDetector(ARCH).state_dict(), imgsz=320))
        return tmp_path / "a.safetensors"

    def test_file_gives_the_same_detector(self, file):
        loaded = load_model(file)
        assert loaded.names == {0: "a", 1: "ü"}
        assert (loaded.task, loaded.imgsz, loaded.not_taken) == ("detect", 320, [])
        assert equal(loaded.detector.state_dict(), load(file).weights)
        assert not loaded.detector.training

    def test_other_classes_keep_everything_but_the_class_layers(self, file):
        loaded = load_model(file, num_classes=5)
        assert loaded.not_taken == [f"head.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")]
        assert loaded.detector.config.num_classes == 5
        assert len(loaded.names) == 5
        assert torch.equal(loaded.detector.stem[0].weight, load(file).weights["stem.0.weight"])

    def test_weights_that_do_not_fit(self, file):
        saved = load(file)
        saved.weights.pop("stem.0.weight")
        save(file, saved)
        with pytest.raises(CheckpointError, match=r"do not fit the network they name, e\.g\. 'stem\.0\.weight'"):
            load_model(file)

    def test_wrong_shape(self, file):
        saved = load(file)
        saved.weights["stem.0.weight"] = torch.zeros(1)
        save(file, saved)
        with pytest.raises(CheckpointError, match=r"stem\.0\.weight"):
            load_model(file)

    def test_variant_is_checked(self, file):
        with pytest.raises(CheckpointError, match="not of variant v2"):
            load_model(file, variant="v2")


def test_preset():
    loaded = load_model("n", num_classes=3, variant="v2")
    assert loaded.detector.config.num_classes == 3
    assert not loaded.detector.config.local_spatial
    assert loaded.names == {0: "0", 1: "1", 2: "2"}


def test_unknown_preset():
    with pytest.raises(ConfigError, match="mamba-yolo-x"):
        load_model("mamba-yolo-x")


def test_official_checkpoint_file():
    path = shared("goldens/official_width_1_16_detect.pt")
    loaded = load_model(path)
    assert loaded.detector.config.num_classes == len(loaded.names) == 5
    assert loaded.task == "detect"
    assert load_model(path, num_classes=2).not_taken
