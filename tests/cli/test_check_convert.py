"""`check` and `convert` through the command line, on the packaged data set."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from mamba_yolo.cli.demo import DATA
from mamba_yolo.cli.entry import run
from mamba_yolo.models import build_detector
from mamba_yolo.models.official import export_state_dict
from official_files import official_bytes


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(DATA.parent, tmp_path / "data")


def test_a_clean_data_set(capsys):
    assert run(["check", str(DATA), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["errors"] == data["warnings"] == []
    assert data["splits"]["train"]["images"] == 44
    assert data["splits"]["val"]["images"] == 16


def test_faults_are_shown_and_end_with_1(capsys, copy):
    (copy / "images" / "train" / "blood_00005.jpg").write_bytes(b"no picture")
    label = copy / "labels" / "train" / "blood_00008.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    assert run(["check", str(copy / "data.yaml")]) == 1
    out = capsys.readouterr().out.replace("\n", "")
    assert "blood_00005.jpg" in out
    assert "blood_00008.txt" in out


def test_show_writes_pictures_of_augmented_batches(capsys, tmp_path):
    words = ["check", str(DATA), "--show", f"project={tmp_path}", "imgsz=64", "degrees=10", "mixup=0.5"]
    assert run([*words, "--json"]) == 0
    pictures = json.loads(capsys.readouterr().out)["pictures"]
    assert pictures == [str(tmp_path / f"check/train_batch{i}.jpg") for i in range(3)]
    sheet = np.asarray(Image.open(pictures[0]))
    assert sheet.shape[0] > 4 * 480
    assert sheet.std() > 20
    assert run(words) == 0
    assert "check2" in capsys.readouterr().out.replace("\n", "")


def test_convert_and_check_again(capsys, tmp_path):
    target = tmp_path / "as_coco"
    assert run(["convert", str(DATA), f"target={target}", "to=coco"]) == 0
    assert run(["check", str(target), "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (data["format"], data["splits"]["train"]["boxes"]) == ("coco", 767)


def test_convert_weights_both_ways(capsys, tmp_path):
    state = export_state_dict(build_detector("n", 3).state_dict())
    (tmp_path / "official.pt").write_bytes(official_bytes(state, ["thrips", "aphid", "mite"]))
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.safetensors"
    assert run(["convert", str(tmp_path / "official.pt"), str(ours)]) == 0
    out = capsys.readouterr().out
    assert "mamba-yolo-n v1, 3 classes: thrips, aphid, mite" in out
    assert "(ours)" in out
    assert run(["convert", f"source={ours}", f"target={back}"]) == 0
    assert "(official key names)" in capsys.readouterr().out
    assert load_file(back).keys() == state.keys()
    assert run(["convert", str(tmp_path / "official.pt"), str(ours)]) == 1
    assert "exists already; remove it or choose another target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", "a.pt", "b.pt"], "weights are written as .safetensors"),
        (["convert", "a.pt", "b.safetensors"], "a.pt: no such file"),
        (["check"], "data is missing"),
        (["check", "nowhere"], "nowhere: no such file or folder"),
        (["check", str(DATA), "--show", "copy_paste=0.5"], "copy_paste=0.5 needs polygons"),
        (["check", str(DATA), "--show", "degrees=1e9"], "degrees must be between 0 and 180"),
        (["convert", "nowhere", "target=t"], "nowhere"),
        (["convert", str(DATA)], "target is missing"),
        (["convert", str(DATA), "target=t", "to=tfrecord"], "'yolo', 'coco', 'voc'"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.splitlines()[-1].startswith("mamba-yolo: error: ")
    assert "Traceback" not in err
