"""`benchmark`: every model at every size, in figures that agree with each other."""

import json

import pytest

from mamba_yolo.cli.entry import run


def test_json(capsys):
    assert run(["benchmark", "model=n", "imgsz=32,64", "runs=2", "batch=2", "device=cpu", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(r["model"], r["imgsz"], r["batch"]) for r in data["results"]] == [("n", 32, 2), ("n", 64, 2)]
    for row in data["results"]:
        assert row["ms_per_image"] * row["images_per_s"] == pytest.approx(1000)


def test_a_bare_word_is_a_model_and_the_suite_of_latencies_may_be_named(capsys):
    assert run(["benchmark", "n", "imgsz=32", "runs=1", "device=cpu", "--suite", "latency", "--json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)["results"]] == ["n"]


def test_wrong_size(capsys):
    assert run(["benchmark", "imgsz=100"]) == 1
    assert "multiple of 32" in capsys.readouterr().err
