"""`doctor`: healthy here, and a fault is seen."""

import json

import torch

from mamba_yolo.cli import doctor
from mamba_yolo.cli.entry import run


def test_this_machine_is_healthy(capsys):
    assert run(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True
    named = {finding["what"] for finding in data["findings"]}
    assert {"mamba-yolo", "python", "torch", "threads", "CPU scan", "CPU NMS", "image decoder"} <= named


def test_people_get_a_table(capsys):
    assert run(["doctor"]) == 0
    assert "everything works" in capsys.readouterr().out


def test_a_wrong_scan_is_a_fault(capsys, monkeypatch):
    real = doctor.ss2d_scan

    def wrong(*args, backend="auto", **kwargs):
        return real(*args, backend=backend, **kwargs) * (1.01 if backend == "auto" else 1)

    monkeypatch.setattr(doctor, "ss2d_scan", wrong)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAULT" in out
    assert "differs from" in out


def test_a_wrong_nms_is_a_fault(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "nms", lambda boxes, scores, iou_thr: torch.tensor([0, 1, 2]))
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
