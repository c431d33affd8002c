"""The ablation report: means and spreads against numpy, and files that say what the runs gave."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.ablation import RESULT, Measured
from mamba_yolo.engine.ablation_report import counts_markdown, markdown_table, row_figures, spread_of, write_files
from mamba_yolo.models.ablation import chosen_rows

CONFIG = TrainConfig(data="some/photos", model="n", epochs=6, imgsz=160, batch=8)
RUNS = [
    Measured("base", 0, 0.30, 0.60, 6, 6, 2.0),
    Measured("base", 1, 0.34, 0.66, 5, 6, 3.0),
    Measured("base", 2, 0.35, 0.61, 6, 6, 2.5),
    Measured("mlp", 0, 0.31, 0.58, 6, 6, 2.0),
    Measured("mlp", 1, 0.30, 0.59, 6, 6, 1.0),
    Measured("v2", 7, 0.20, 0.40, 6, 6, 1.0),
]


@pytest.fixture
def folder(tmp_path):
    """A folder of finished runs."""
    for run in RUNS:
        (tmp_path / f"{run.row}-seed{run.seed}").mkdir()
        (tmp_path / f"{run.row}-seed{run.seed}" / RESULT).write_text(json.dumps(run._asdict()))
    write_files(tmp_path, CONFIG)
    return tmp_path


def test_spread_is_numpys_sample_standard_deviation():
    values = np.random.default_rng(0).random(7)
    spread = spread_of(values.tolist())
    assert spread.mean == pytest.approx(values.mean(), rel=1e-12)
    assert spread.spread == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert spread.runs == 7
    assert str(spread) == f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def test_one_run_has_no_spread():
    assert spread_of([0.25]) == (0.25, None, 1)
    assert str(spread_of([0.25])) == "0.250"


def test_change_beside_base_is_taken_seed_by_seed():
    base, mlp, v2 = row_figures(RUNS)
    assert base.change is None
    changes = np.array([0.31, 0.30]) - np.array([0.30, 0.34])  # seed 2 of base has no partner
    assert mlp.change.mean == pytest.approx(changes.mean())
    assert mlp.change.spread == pytest.approx(changes.std(ddof=1))
    assert mlp.change.runs == 2
    assert v2.change is None  # no seed in common
    assert base.minutes == 2.5


def test_markdown_has_one_line_per_row(folder):
    text = (folder / "ablation.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| mlp")]
    assert lines[0] == [
        "mlp",
        "2.06",
        "7.5",
        "2",
        "0.305 ± 0.007",
        "0.585 ± 0.007",
        "-0.015 ± 0.035",
        "1.5",
        "less accurate",
    ]
    assert "n on some/photos, 6 epochs, 160 px, batch 8" in text
    assert text.count("\n| v2") == 2


def test_json_and_csv_hold_every_run(folder):
    data = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in data["rows"]] == ["base", "mlp", "v2"]
    assert data["rows"][1]["ap"] == {"mean": 0.305, "spread": pytest.approx(0.0070710678), "runs": 2}
    assert data["rows"][1]["change"] == {"channel_mlp": "mlp"}
    assert data["rows"][2]["ap_beside_base"] is None
    with (folder / "ablation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], int(row["seed"]), float(row["map50_95"])) for row in rows] == [run[:3] for run in RUNS]


def test_picture_is_a_drawing_of_every_row(folder):
    drawing = ET.fromstring((folder / "ablation.svg").read_text(encoding="utf-8"))
    words = [node.text for node in drawing.iter() if node.tag.endswith("text")]
    assert {"base", "mlp", "v2"} <= set(words)
    assert sum(node.tag.endswith("circle") for node in drawing.iter()) == 3


def test_nothing_finished_yet_is_a_report_too(tmp_path):
    write_files(tmp_path, CONFIG)
    assert json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))["rows"] == []
    assert not (tmp_path / "ablation.svg").exists()


def test_counts_stand_beside_the_papers():
    text = counts_markdown(chosen_rows(("base", "mlp", "v2")), "t")
    base, mlp, v2 = ([c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()[4:7])
    assert base == ["base", "reference", "6.13", "18.6", "2.8", "14.1", "6.1", "14.3", "45.4"]
    assert mlp == ["mlp", "channel MLP", "6.10", "18.5", "2.8", "14.0", "", "", ""]
    assert v2 == ["v2", "variant", "5.44", "17.9", "3.0", "13.0", "5.8", "13.2", "44.5"]
    assert "- v2: 5.44 M parameters, the paper prints 5.8 M." in text


def test_cells_of_a_table_stand_below_each_other():
    lines = markdown_table(("a", "long name"), [("first", 1), ("b", "")])
    assert lines == ["| a     | long name |", "|-------|-----------|", "| first | 1         |", "| b     |           |"]
