"""`info`: the exact numbers of the design, through the command line."""

import json

import pytest

from mamba_yolo.cli.entry import run


@pytest.mark.parametrize(("name", "parameters"), [("mamba-yolo-t", 6_131_704), ("t-seg", 6_384_472)])
def test_json(capsys, name, parameters):
    assert run(["info", name, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"] == parameters
    assert data["flops"] > data["scan_flops"]
    assert "scan counts" in data["convention"]
    assert (data["paper"] is None) == (name == "t-seg")


def test_people_see_the_papers_figures_beside_ours(capsys):
    assert run(["info", "t", "variant=v2", "imgsz=320"]) == 0
    out = capsys.readouterr().out
    assert "AAAI 2025: 5.8 M" in out
    assert "of which scan" in out
    assert run(["info", "n"]) == 0
    assert "not in the papers" in capsys.readouterr().out


def test_a_wrong_preset(capsys):
    assert run(["info", "mamba-yolo-x"]) == 1
    assert "mamba-yolo-x" in capsys.readouterr().err
