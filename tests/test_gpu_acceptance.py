"""The acceptance of the CUDA scan: on a GPU its checks, elsewhere what of it runs on a CPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

import gpu_acceptance
import gpu_checks
import gpu_peers
from helpers import ROOT

SMALL = [(1, 1, 1, 1, 1, 16), (2, 5, 7, 24, 3, 16), (2, 3, 4, 8, 2, 20)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("check", gpu_checks.CHECKS)
def test_on_a_gpu(check):
    check("cuda")


@pytest.mark.parametrize("check", gpu_checks.ON_ANY_DEVICE)
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_checks_pass_on_the_cpu(check, monkeypatch):
    monkeypatch.setattr(gpu_checks, "MAPS", SMALL)
    assert gpu_checks.run_checks([check], "cpu")[0]["ok"]


@pytest.mark.parametrize("check", [gpu_checks.check_maps, gpu_checks.check_sequences])
def test_a_wrong_scan_fails(check, monkeypatch, capsys):
    monkeypatch.setattr(gpu_checks, "MAPS", SMALL)
    for name in ("ss2d_scan", "selective_scan"):
        real = getattr(gpu_checks, name)
        wrong = lambda x, *rest, real=real: real(x, *rest) * (1.05 if x.dtype != torch.float64 else 1)  # noqa: E731
        monkeypatch.setattr(gpu_checks, name, wrong)
    [row] = gpu_checks.run_checks([check], "cpu")
    assert not row["ok"]
    assert "off, allowed" in row["said"]
    assert "Traceback" in capsys.readouterr().err


def test_a_scan_that_varies_fails(monkeypatch):
    monkeypatch.setattr(gpu_checks, "MAPS", SMALL)
    real = gpu_checks.ss2d_scan
    monkeypatch.setattr(gpu_checks, "ss2d_scan", lambda *inputs: real(*inputs) + torch.rand(()))
    assert not gpu_checks.run_checks([gpu_checks.check_same_bits], "cpu")[0]["ok"]


@pytest.mark.parametrize("peer", ["official_style", "chunked"])
def test_peers_compute_the_same(peer):
    x, _, *rest = gpu_checks.map_inputs((2, 9, 13, 24, 3, 16), "cpu")
    weight = torch.randn(4, 3 + 32, 24, generator=torch.Generator().manual_seed(0)) * 0.2
    options = {"scan": grouped_scan} if peer == "official_style" else {}
    got = getattr(gpu_peers, peer)(x, weight, *rest, **options)
    gpu_checks.require_close([got], [gpu_peers.ours(x, weight, *rest)], 1e-4)


def grouped_scan(u, delta, A, B, C, D, bias):
    return gpu_checks.selective_scan(u, delta, A, B, C, D, bias, True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((100, 130, 110, False), "aim met"),
        ((120, 130, 110, False), "reached"),
        ((131, 130, 110, False), "MISSED"),
        ((5, 4, 6, True), "reached"),
        ((3, 4, 6, True), "MISSED"),
        ((24, 25, None, False), "reached"),
        ((7, None, None, True), ""),
    ],
)
def test_verdicts(row, expected):
    assert gpu_acceptance.verdict(*row) == expected


def test_the_report(tmp_path, monkeypatch, capsys):
    rows = [("forward", 123.456, "us", 130, 110, False), ("peer / ours", 4.5, "x", None, None, True)]
    monkeypatch.setattr(gpu_acceptance, "warmup", lambda: None)
    monkeypatch.setattr(gpu_acceptance, "CHECKS", [gpu_checks.check_autocast])
    monkeypatch.setattr(gpu_acceptance, "run_checks", lambda checks, device: gpu_checks.run_checks(checks, "cpu"))
    monkeypatch.setattr(gpu_acceptance, "timings", lambda: rows)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert gpu_acceptance.main(tmp_path) == 0
    text = (tmp_path / "gpu_acceptance.md").read_text()
    assert "| autocast | ok: passed |" in text
    assert "| forward | 123.5 us | 130 us | 110 us | reached |" in text
    assert "| peer / ours | 4.5 x |  |  |  |" in text
    assert json.loads((tmp_path / "gpu_acceptance.json").read_text())["machine"].startswith("a GPU, torch")
    monkeypatch.setattr(gpu_acceptance, "CHECKS", [broken])
    assert gpu_acceptance.main(tmp_path) == 1
    assert "| broken | FAILED: RuntimeError: no GPU |" in (tmp_path / "gpu_acceptance.md").read_text()


def broken(device):
    raise RuntimeError("no GPU")


def test_blocks_are_those_of_t():
    total = gpu_acceptance.sum_of_blocks(lambda side, channels, rank: side * side * channels * 64)
    assert total == 367_001_600


def test_the_triton_peer_in_its_interpreter():
    pytest.importorskip("triton")
    script = (
        "import torch, gpu_checks, gpu_peers\n"
        "u, delta, A, B, C, D, bias = gpu_checks.sequence_inputs(groups=4, channels=8, length=21, states=16)\n"
        "gpu_peers.TILE = 8\n"
        "got = gpu_peers.triton_scan(u, delta, A, B, C, D, bias)\n"
        "gpu_checks.require_close([got], [gpu_checks.selective_scan(u, delta, A, B, C, D, bias, True)], 1e-4)\n"
    )
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "benches")}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr
