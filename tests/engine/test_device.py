"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from mamba_yolo.engine.device import pick_device
from mamba_yolo.errors import BackendError, ConfigError


def test_cpu_and_auto(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda", 0)


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1), ("1", 1)])
def test_gpus(monkeypatch, name, index):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device(name) == torch.device("cuda", index)


def test_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendError, match=r"asks for GPU 3.*sees 1 here"):
        pick_device("cuda:3")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda1x", "mps"])
def test_unknown(name):
    with pytest.raises(ConfigError, match="device must be"):
        pick_device(name)
