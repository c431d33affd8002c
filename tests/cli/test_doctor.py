"""`doctor`: healthy here, and a fault is seen."""

import json

import torch

from mamba_yolo.cli import doctor
from mamba_yolo.cli.entry import run
from mamba_yolo.ops import _cuda


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
        return real(*args, backend=backend, **kwargs) * (1 if backend == "reference" else 1.01)

    monkeypatch.setattr(doctor, "ss2d_scan", wrong)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAULT" in out
    assert "differs from" in out


def test_it_says_why_the_cuda_kernels_are_off(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(_cuda, "_gpus", {})
    assert run(["doctor", "--json"]) == 0
    [found] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["what"] == "CUDA kernels"]
    assert found["found"].startswith("off: torch ")
    assert found["found"].endswith(("sees no NVIDIA GPU or no driver here; use the CPU", "or use the CPU"))
    monkeypatch.setenv("MAMBA_YOLO_BACKEND", "cuda")
    assert run(["doctor"]) == 1
    assert "FAULT" in capsys.readouterr().out


def test_the_kernels_of_a_gpu_are_tested(capsys, monkeypatch):
    def self_test(device):
        if device.type == "cuda":
            raise ArithmeticError(f"wrong on {device}")
        return "fine"

    monkeypatch.setattr(doctor, "cuda_kernels_of", lambda index: "sm_90 cubin")
    monkeypatch.setattr(doctor, "_scan_equals_definition", self_test)
    assert run(["doctor", "--json"]) == 1
    [found] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["what"] == "CUDA kernels"]
    assert (found["found"], found["test"], found["ok"]) == ("sm_90 cubin", "wrong on cuda:0", False)


def test_a_wrong_nms_is_a_fault(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "nms", lambda boxes, scores, iou_thr: torch.tensor([0, 1, 2]))
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
