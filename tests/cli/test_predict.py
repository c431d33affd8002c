"""`predict` through the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from mamba_yolo.cli.entry import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


def test_pictures_and_json(here, capsys):
    assert run(["predict", "photos", "model=n", "imgsz=64", "conf=0", "max_det=2", "save_json=True", "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "photos/a.png 60x40" in out.replace("\\", "/")
    assert "4 objects in 2 images" in out
    folder = here / "runs" / "predict"
    assert sorted(p.name for p in folder.iterdir()) == ["a.jpg", "b.jpg", "coco.json", "predictions.json"]
    assert len(json.loads((folder / "predictions.json").read_text())) == 2


def test_nothing_is_written_when_not_wanted(here):
    assert run(["predict", "--source", "photos/a.png", "--model", "n", "--imgsz", "64", "--no-save"]) == 0
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "source is missing"),
        (["gone.jpg"], "gone.jpg: no such file or folder"),
        (["photos", "model=gone.safetensors"], "gone.safetensors"),
        (["photos", "model=q"], "'q'"),
        (["photos", "conf=2"], "conf must be between 0 and 1"),
        (["photos", "device=tpu"], "device must be auto, cpu"),
    ],
)
def test_bad_input_is_one_line(here, capsys, words, message):
    assert run(["predict", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not (here / "runs").exists()
