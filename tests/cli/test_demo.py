"""`train`, `val` and `demo` on the packaged photographs, for one tiny epoch."""

import json

import pytest

from mamba_yolo.cli import demo
from mamba_yolo.cli.entry import run

TINY = {"epochs": 1, "imgsz": 64, "batch": 16, "plots": False, "device": "cpu"}


def test_the_packaged_data_are_small_and_licensed():
    files = [p for p in demo.DATA.parent.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 2_000_000
    assert "MIT License" in (demo.DATA.parent / "LICENSE.txt").read_text()
    assert "Shenggan/BCCD_Dataset" in (demo.DATA.parent / "README.md").read_text()
    images = {p.relative_to(demo.DATA.parent / "images").with_suffix("") for p in files if p.suffix == ".jpg"}
    labels = {
        p.relative_to(demo.DATA.parent / "labels").with_suffix("") for p in files if p.parent.parent.name == "labels"
    }
    assert images == labels
    assert len(images) == 60


@pytest.mark.e2e
def test_demo_says_where_everything_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "TRAINING", TINY)
    assert run(["demo", f"project={tmp_path}", "name=d"]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "d"
    for path in (folder / "labels_and_predictions.jpg", folder / "weights" / "best.safetensors"):
        assert path.is_file()
        assert str(path) in out
    assert len(list((folder / "predictions").glob("*.jpg"))) == 16
    shown = tmp_path / "d-packaged" / "labels_and_predictions.jpg"
    assert shown.is_file()
    assert out.index(str(shown)) < out.index("now the same from nothing") < out.index(str(folder / "labels_and"))
    assert "what next" in out


@pytest.mark.e2e
def test_val_prints_the_figures_of_training(capsys, tmp_path):
    options = [f"{name}={value}" for name, value in TINY.items()]
    assert run(["train", str(demo.DATA), "model=n", *options, f"project={tmp_path}"]) == 0
    best = tmp_path / "train" / "weights" / "best.safetensors"
    assert f"best weights: {best}" in capsys.readouterr().out
    words = ["val", str(demo.DATA), f"model={best}", "imgsz=64", "device=cpu", f"project={tmp_path}"]
    assert run([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (tmp_path / "val" / "report.html").is_file()
    words.append("plots=False")
    assert data["images"] == 16
    assert [row["name"] for row in data["per_class"]] == ["RBC", "WBC", "Platelets"]
    assert run([*words, "cache=disk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map50_95"] == data["map50_95"]
    assert run([*words, "rect=True", "--cache", "ram"]) == 0
    assert "Platelets" in capsys.readouterr().out
    assert not (tmp_path / "val2").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "data is missing"),
        (["val"], "data is missing"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["val", "nowhere.yaml", "model=n"], "nowhere.yaml"),
        (["val", str(demo.DATA), "model=n"], "80 classes"),
        (["val", str(demo.DATA), "model=gone.pt"], "gone.pt"),
        (["train", "resume=True", "name=never"], "nothing to resume"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
