"""Weights of a network with masks on the command line: val and predict."""

import json

import pytest

from engine.test_segment_training import detector, make_set
from mamba_yolo.cli.entry import run
from mamba_yolo.engine.checkpoint import Checkpoint, save
from mamba_yolo.ops import rle_area


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a data set of discs and weights that find something everywhere."""
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path)
    network = detector()
    save(tmp_path / "discs.safetensors", Checkpoint(network.config, {0: "disc"}, network.state_dict(), imgsz=64))
    return tmp_path


def test_val_prints_boxes_and_masks_apart(here, capsys):
    words = ["val", "data=train.json", "model=discs.safetensors", "plots=false", "device=cpu", "workers=1"]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "boxes: " in said
    assert "masks: " in said
    assert run([*words, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["seg"].keys() >= {"map50", "map50_95", "per_class"}
    assert metrics["images"] == metrics["seg"]["images"] == 2


def test_predict_writes_outlines_and_run_lengths(here):
    words = ["source=val0.png", "model=discs.safetensors", "conf=0.0", "max_det=3", "save_json=true", "device=cpu"]
    assert run(["predict", *words]) == 0
    (folder,) = (here / "runs").iterdir()
    (row,) = json.loads((folder / "predictions.json").read_text())
    found = json.loads((folder / "coco.json").read_text())
    assert len(row["objects"]) == len(found) == 3
    assert all({"x", "y"} == set(o["segments"]) for o in row["objects"])
    assert all(r["segmentation"]["size"] == [64, 64] for r in found)
    assert any(rle_area(r["segmentation"]) for r in found)
    assert (folder / "val0.jpg").exists()
