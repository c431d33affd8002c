"""`benchmark --suite ablation`: counts without data, training with it, one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import tiny
from helpers import ROOT
from mamba_yolo.cli.demo import DATA
from mamba_yolo.cli.entry import run
from mamba_yolo.engine import ablation
from mamba_yolo.engine.ablation_report import counts_markdown
from mamba_yolo.models.ablation import chosen_rows

SUITE = ["benchmark", "--suite", "ablation"]


@pytest.fixture
def stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)
    monkeypatch.setattr(ablation, "open_dataset", tiny.open_tiny)
    monkeypatch.setattr(ablation, "Detector", tiny.TinyDetector)


def words(folder, *more):
    options = ["data=tiny", "model=n", "epochs=1", "imgsz=64", "batch=4", "device=cpu", f"project={folder}"]
    return [*SUITE, *options, *more]


def test_without_data_the_networks_are_counted(capsys):
    assert run([*SUITE, "model=t", "only=base,v2"]) == 0
    out = capsys.readouterr().out
    assert "| v2   | variant   | 5.44 " in out
    assert "- v2: 5.44 M parameters, the paper prints 5.8 M." in out
    assert run([*SUITE, "model=t", "--only", "v2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["parameters"], row["paper"]["ap"]) for row in data["rows"]] == [("v2", 5_442_612, 44.5)]


def test_rows_are_trained_and_shown(tmp_path, capsys, stand_ins):
    assert run(words(tmp_path, "seeds=0,1", "only=base,c2f-neck", "json=True")) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in data["rows"]] == ["base", "c2f-neck"]
    assert [[r["seed"] for r in row["runs"]] for row in data["rows"]] == [[0, 1], [0, 1]]
    assert data["rows"][1]["ap_beside_base"]["runs"] == 2
    assert run(words(tmp_path, "only=mlp")) == 0
    out = capsys.readouterr().out
    assert all(f"| {name} " in out for name in ("base", "c2f-neck", "mlp"))  # finished earlier in this folder, too
    assert (tmp_path / "ablation" / "ablation.md").read_text(encoding="utf-8") in out


def test_ctrl_c_keeps_what_is_finished(tmp_path, capsys, stand_ins, monkeypatch):
    train, names = ablation.train, []

    def second_is_interrupted(config, **options):
        names.append(config.name)
        if len(names) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train(config, **options)

    monkeypatch.setattr(ablation, "train", second_is_interrupted)
    assert run(words(tmp_path, "only=base,mlp")) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "ablation: 1; the same command goes on" in err
    assert err.endswith("mamba-yolo: interrupted\n")
    assert "\n| base " in (tmp_path / "ablation" / "ablation.md").read_text(encoding="utf-8")
    assert run(words(tmp_path, "only=base,mlp")) == 0
    assert names == ["base-seed0", "mlp-seed0", "mlp-seed0"]


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["only=base,c2fneck"], 1, "unknown row 'c2fneck'; did you mean 'c2f-neck'?"),
        (["seed=1"], 1, "seed is not an option of the ablation suite: give seeds=0,1"),
        (["resume=True"], 1, "resume is not an option of the ablation suite: it goes on by itself, leave it out"),
        (["seeds=1,1"], 1, "seeds must be one or more different numbers, got (1, 1)"),
        (["seeds=-1"], 1, "seeds must be between 0 and"),
        (["model=x"], 1, "unknown model 'x'"),
        (["epochs=0"], 1, "epochs must be between 1 and"),
        (["optimizer=adam"], 1, "'auto', 'sgd', 'adamw'"),
        (["runs=3"], 2, "unknown option 'runs'"),
        (["data=nowhere"], 1, "nowhere"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, more, code, line):
    assert run([*SUITE, f"project={tmp_path}", *more]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert line in err
    assert list(tmp_path.iterdir()) == []


def test_changed_settings_are_one_line(tmp_path, capsys, stand_ins):
    assert run(words(tmp_path, "only=base")) == 0
    capsys.readouterr()
    assert run(words(tmp_path, "only=base,mlp", "lr0=0.5")) == 1
    assert "its runs have lr0 0.01, this one would have 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", [["--suite", "ablaton"], ["suite=ablaton"], ["--suite=ablaton"]])
def test_an_unknown_suite_names_the_nearest(capsys, spelling):
    assert run(["benchmark", *spelling]) == 2
    assert "unknown suite 'ablaton'; did you mean 'ablation'?" in capsys.readouterr().err


def test_help_of_the_suite_lists_its_options_without_torch():
    code = (
        "import sys; from mamba_yolo.cli.entry import run\n"
        "assert run(['benchmark', '--suite', 'ablation', '--help']) == 0\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in ("--seeds", "--only", "--epochs", "--mosaic"))


@pytest.mark.parametrize(("size", "names"), [("t", ()), ("b", ("base", "v2")), ("l", ("base", "v2"))])
def test_the_counts_in_the_documentation_are_true(size, names):
    page = (ROOT / "docs/ablations.md").read_text(encoding="utf-8")
    assert counts_markdown(chosen_rows(names), f"mamba-yolo-{size}") in page


@pytest.mark.e2e
def test_a_real_row(tmp_path, capsys):
    options = [f"data={DATA}", "model=n", "epochs=1", "imgsz=32", "batch=16", "device=cpu", "only=c2f-neck"]
    assert run([*SUITE, *options, f"project={tmp_path}", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in data["rows"]] == ["c2f-neck"]
    run_folder = Path(data["folder"]) / "c2f-neck-seed0"
    assert (run_folder / "weights" / "best.safetensors").is_file()
