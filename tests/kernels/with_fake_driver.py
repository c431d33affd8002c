"""Tests that run in a process of their own, whose libcuda.so.1 is fake_driver.cpp; test_launch.py starts it."""

import contextlib
import ctypes
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from kernels.building import FOLDER, compile_shared, load_builder
from mamba_yolo.errors import BackendError
from mamba_yolo.ops import _cuda, cuda_images, dispatch, warmup
from mamba_yolo.ops.cuda_arguments import Layout

RECORD = Layout("out", "", "bytes first", "second")
STREAM = 0x1234567890
SOURCE = """struct Record { void* out; int bytes, first; float second; };
extern "C" __global__ void record(const __grid_constant__ Record a) { *(int*)a.out = a.first; }
extern "C" __global__ void fail(const __grid_constant__ Record a) {}
"""


class FakeLaunch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_ulong),
        ("launches", ctypes.c_ulong),
    ]


@pytest.fixture(scope="session")
def recorder(tmp_path_factory):
    return compile_shared(tmp_path_factory.mktemp("recorder") / "recorder.so", FOLDER / "recorder.cpp")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Real images of two small kernels."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "recorder.cu").write_text(SOURCE)
    load_builder().build(folder, folder / "kernels.zip")
    return folder / "kernels.zip"


@pytest.fixture
def machine(monkeypatch, archive, recorder):
    """A torch that sees one GPU of sm_90; its parts may be changed."""
    found = SimpleNamespace(capability=(9, 0), capturing=False, device=0)
    for name, answer in {
        "is_available": lambda: True,
        "get_device_capability": lambda index: found.capability,
        "get_device_properties": lambda index: SimpleNamespace(multi_processor_count=132),
        "is_current_stream_capturing": lambda: found.capturing,
        "device": lambda index: switched(found, index),
        "current_device": lambda: found.device,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(_cuda, "current_stream", lambda index: STREAM + index)
    monkeypatch.setattr(_cuda, "make_context", lambda index: None)
    monkeypatch.setattr(_cuda, "Images", lambda: cuda_images.Images(archive))
    monkeypatch.setenv("FAKE_KERNELS", str(recorder))
    yield found
    _cuda._gpus.clear()
    _cuda._import_driver.cache_clear()
    dispatch._warn_once.cache_clear()


@contextlib.contextmanager
def switched(found, index):
    before, found.device = found.device, index
    yield
    found.device = before


def last_launch():
    return FakeLaunch.in_dll(ctypes.CDLL("libcuda.so.1"), "fake_launch")


def test_parameters_arrive_byte_for_byte(machine):
    got = ctypes.create_string_buffer(RECORD.size)
    fields = ctypes.addressof(got), RECORD.size, -7, 0.1
    _cuda.gpu(0).launch("record", 70_000, 96, 4321, RECORD, *fields)
    assert got.raw == struct.pack("<Qiif", *fields)
    launch = last_launch()
    assert (list(launch.grid), list(launch.block)) == ([70_000, 1, 1], [96, 1, 1])
    assert (launch.shared, launch.stream) == (4321, STREAM)


def test_each_launch_takes_the_stream_and_the_device_of_its_time(machine, monkeypatch):
    gpu = _cuda.gpu(1)
    seen = []
    monkeypatch.setattr(_cuda, "current_stream", lambda index: seen.append((machine.device, index)) or 5)
    got = ctypes.create_string_buffer(RECORD.size)
    gpu.launch("record", 1, 32, 0, RECORD, ctypes.addressof(got), RECORD.size, 1, 1.0)
    assert seen == [(1, 1)]
    assert machine.device == 0
    assert last_launch().stream == 5


def test_threads_have_parameters_of_their_own(machine):
    gpu = _cuda.gpu(0)

    def launch(number):
        got = ctypes.create_string_buffer(RECORD.size)
        for _ in range(50):
            gpu.launch("record", 1, 32, 0, RECORD, ctypes.addressof(got), RECORD.size, number, float(number))
            if RECORD.unpack(got.raw)[2:] != (number, number):
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(launch, range(64)))


def test_a_failed_launch_names_the_kernel(machine):
    with pytest.raises(BackendError, match="fail on GPU 0: the driver says CUDA_ERROR_LAUNCH_FAILED"):
        _cuda.gpu(0).launch("fail", 1, 32, 0, RECORD, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("capability", "refuses", "origin"),
    [
        ((7, 5), "", "sm_75 cubin of NVRTC 12.9"),
        ((8, 7), "", "sm_86 cubin of NVRTC 12.9"),
        ((9, 0), "", "sm_90 cubin of NVRTC 12.9"),
        ((12, 1), "", "sm_120 cubin of NVRTC 12.9"),
        ((7, 5), "cubin", "compute_75 ptx of NVRTC 12.9"),
        ((8, 7), "cubin", "compute_80 ptx of NVRTC 12.9"),
        ((11, 0), "", "compute_80 ptx of NVRTC 12.9"),
        ((11, 0), "ptx", "sm_110 cubin compiled here by NVRTC "),
    ],
)
def test_the_first_image_that_the_driver_takes(machine, monkeypatch, capability, refuses, origin):
    machine.capability = capability
    monkeypatch.setenv("FAKE_REFUSES", refuses)
    assert _cuda.gpu(0).origin.startswith(origin)


def test_no_image_that_the_driver_takes(machine, monkeypatch):
    monkeypatch.setenv("FAKE_REFUSES", "cubin, ptx")
    message = (
        r"GPU 0 takes none of the CUDA kernels of recorder \(sm_90 cubin of NVRTC 12.9: CUDA_ERROR_NO_BINARY_FOR_GPU; "
        r"compute_80 ptx of NVRTC 12.9: CUDA_ERROR_UNSUPPORTED_PTX_VERSION; sm_90 cubin compiled here .*update the dri"
    )
    with pytest.raises(BackendError, match=message):
        _cuda.gpu(0)
    assert "takes none" in _cuda.why_not(0)


def test_an_architecture_that_no_compiler_here_knows(machine, monkeypatch):
    machine.capability = (99, 0)
    monkeypatch.setenv("FAKE_REFUSES", "ptx")
    with pytest.raises(BackendError, match=r"for sm_990: .*invalid value for --gpu-architecture"):
        _cuda.gpu(0)


def test_what_is_compiled_here_is_kept(machine, monkeypatch, cache_folder):
    machine.capability = (11, 0)
    monkeypatch.setenv("FAKE_REFUSES", "ptx")
    _cuda.gpu(0)
    [file] = (cache_folder / "cuda").iterdir()
    good = file.read_bytes()
    monkeypatch.setattr(_cuda.Nvrtc, "compile", None)
    _cuda._gpus.clear()
    _cuda.gpu(0)
    monkeypatch.undo()
    assert good == file.read_bytes()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + b"x" + b[41:]])
def test_a_damaged_kept_image_is_made_anew(machine, monkeypatch, cache_folder, damage):
    machine.capability = (11, 0)
    monkeypatch.setenv("FAKE_REFUSES", "ptx")
    _cuda.gpu(0)
    [file] = (cache_folder / "cuda").iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    _cuda._gpus.clear()
    _cuda.gpu(0)
    assert [f.read_bytes() for f in (cache_folder / "cuda").iterdir()] == [good]


def test_a_cache_that_cannot_be_written_costs_time_only(machine, monkeypatch, cache_folder, caplog):
    machine.capability = (11, 0)
    monkeypatch.setenv("FAKE_REFUSES", "ptx")
    (cache_folder / "cuda").write_text("a file where the folder should be")
    _cuda.gpu(0)
    assert "cannot keep compiled CUDA kernels" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found, patch: patch.setenv("FAKE_VERSION", "11080"),
            "supports CUDA 11.8, the kernels need 12.0; update",
        ),
        (lambda found, patch: setattr(found, "capability", (7, 0)), r"capability 7\.0, the CUDA kernels need 7\.5"),
        (lambda found, patch: patch.setitem(sys.modules, "cuda.bindings", None), r"pip install 'mamba-yolo\[cuda\]'"),
        (lambda found, patch: patch.setattr(torch.version, "cuda", None), "is built without CUDA"),
        (lambda found, patch: patch.setattr(torch.cuda, "is_available", lambda: False), "sees no NVIDIA GPU"),
    ],
)
def test_why_not(machine, monkeypatch, change, message):
    change(machine, monkeypatch)
    for _ in range(2):
        with pytest.raises(BackendError, match=message):
            warmup(0)
    with pytest.raises(BackendError, match=message):
        _cuda.gpu(0)


def test_a_missing_or_damaged_archive(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(_cuda, "Images", lambda: cuda_images.Images(tmp_path / "cuda_kernels.zip"))
    assert "no compiled CUDA kernels (cuda_kernels.zip)" in _cuda.why_not(0)
    _cuda._gpus.clear()
    (tmp_path / "cuda_kernels.zip").write_bytes(b"PK")
    assert "is damaged" in _cuda.why_not(0)


def test_loading_while_a_graph_is_captured_is_an_error_until_warmup(machine):
    machine.capturing = True
    with pytest.raises(BackendError, match=r"before a graph is captured: call mamba_yolo\.ops\.warmup"):
        _cuda.why_not(0)
    machine.capturing = False
    warmup("cuda:0")
    machine.capturing = True
    assert _cuda.why_not(0) is None


def test_warmup_is_for_gpus(machine):
    with pytest.raises(BackendError, match="run on NVIDIA GPUs, not on cpu"):
        warmup("cpu")
