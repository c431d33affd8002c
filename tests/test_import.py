"""Importing does nothing: no torch, no network, no change of the process."""

import subprocess
import sys

import pytest

import mamba_yolo

WATCHED = """
import os, socket, sys, threading

def refuse(*args, **kwargs):
    raise AssertionError("the network was used")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
environment, folder, threads, files = dict(os.environ), os.getcwd(), threading.active_count(), sorted(os.listdir())
import signal, warnings
handlers, filters = [signal.getsignal(s) for s in signal.valid_signals()], list(warnings.filters)
"""
UNCHANGED = """
assert dict(os.environ) == environment, "environment"
assert os.getcwd() == folder and sorted(os.listdir()) == files, "folder"
assert threading.active_count() == threads, "threads"
assert [signal.getsignal(s) for s in signal.valid_signals()] == handlers, "signals"
assert not (loaded := HEAVY & set(sys.modules)), loaded
"""


def check(code, heavy, tmp_path):
    script = WATCHED + code + f"\nHEAVY = {heavy!r}\n" + UNCHANGED
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


def test_import_loads_nothing_heavy(tmp_path):
    heavy = {"torch", "numpy", "PIL", "matplotlib", "rich", "tyro", "yaml", "safetensors", "cv2", "supervision"}
    check("import mamba_yolo\nassert warnings.filters == filters", heavy, tmp_path)


def test_the_whole_package_leaves_torch_as_it_is(tmp_path):
    code = """
import numpy, torch
state = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
flags = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(), numpy.geterr()
import mamba_yolo
mamba_yolo.MambaYOLO, mamba_yolo.Results, mamba_yolo.build_detector, mamba_yolo.models, mamba_yolo.ops, mamba_yolo.data
assert torch.equal(torch.get_rng_state(), state[0])
assert (torch.get_num_threads(), torch.get_default_dtype()) == state[1:]
assert (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(), numpy.geterr()) == flags
assert not torch.cuda.is_initialized()
"""
    check(code, {"matplotlib", "supervision", "cv2", "tyro"}, tmp_path)


def test_public_names():
    assert set(mamba_yolo.__all__) <= set(dir(mamba_yolo))
    for name in mamba_yolo.__all__:
        assert getattr(mamba_yolo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mamba_yolo.nothing  # noqa: B018
