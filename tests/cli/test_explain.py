"""`explain` through the command line."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mamba_yolo.cli.entry import run


def test_json_and_pictures(capsys, tmp_path):
    photo = tmp_path / "grey.png"
    Image.new("RGB", (60, 40), (90, 120, 90)).save(photo)
    assert run(["explain", str(photo), "model=n", "imgsz=64", f"project={tmp_path}", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [Path(p).name for p in data["pictures"]][-1] == "overview.png"
    assert all(Path(p).is_file() for p in data["pictures"])
    assert [set(stage) for stage in data["receptive_field"]] == [{"half_px", "most_px"}] * 4
    assert set(data["directions"]) >= {"row by row", "column by column"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain"], "source is missing"),
        (["explain", "nowhere.jpg", "model=n"], "nowhere.jpg"),
        (["explain", "nowhere.jpg", "model=x"], "mamba-yolo-x"),
        (["explain", "nowhere.jpg", "model=n", "target=unicorn"], "unknown class 'unicorn'"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message.removeprefix("mamba-yolo-") in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
