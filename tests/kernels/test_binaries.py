"""Compiled CUDA kernels: what the archive holds, which drivers read it, and that the same text gives the same bytes."""

import platform
import re
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from helpers import ROOT
from kernels.building import load_builder
from mamba_yolo.ops._nvrtc import CompileError, Nvrtc, installed, lower_ptx_version
from mamba_yolo.ops.cuda_images import ARCHIVE, Images

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="no NVRTC for macOS")
LARGEST_BYTES = 2_000_000
# Bytes 7 and 8 of a cubin: drivers 525 to 575 read the first, Blackwell's need a newer one anyway.
ABI_OF_CUDA_12, ABI_OF_BLACKWELL = b"\x33\x07", b"\x41\x08"
SOURCE = (
    'struct A { float* p; int n; };\nextern "C" __global__ void one(const __grid_constant__ A a) { a.p[a.n] = 1; }\n'
)


@pytest.fixture(scope="module")
def builder():
    return load_builder()


@pytest.fixture(scope="module")
def nvrtc():
    return Nvrtc(installed("nvidia-cuda-nvrtc-cu12"))


def test_the_archive_is_made_of_the_sources_here(builder):
    assert Images().sources() == builder.read_sources(ROOT / "cuda"), "run `make build`"
    assert Images().compiler == "12.9"
    assert ARCHIVE.stat().st_size <= LARGEST_BYTES


def test_every_kernel_is_there_for_every_gpu(builder):
    archive = zipfile.ZipFile(ARCHIVE)
    units = Images().units
    assert units.keys() == {p.stem for p in (ROOT / "cuda").glob("*.cu")}
    assert all(units.values())
    names = [name for unit in units.values() for name in unit]
    assert len(names) == len(set(names)), "two kernels of one name"
    for target in builder.CUBINS:
        for unit, kernels in units.items():
            cubin = archive.read(f"{target}/{unit}.cubin")
            newer = target in ("sm_100", "sm_120")
            assert (cubin[:4], cubin[7:9]) == (b"\x7fELF", ABI_OF_BLACKWELL if newer else ABI_OF_CUDA_12)
            assert all(b"\0" + name.encode() + b"\0" in cubin for name in kernels)
    for target in builder.PTX:
        for unit in units:
            assert re.search(rb"\.version 8\.0\n\.target sm_\d+\n", archive.read(f"{target}/{unit}.ptx"))


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="no old ptxas for this machine")
@pytest.mark.parametrize(("ptx", "target"), [("compute_75", "sm_75"), ("compute_80", "sm_80"), ("compute_80", "sm_90")])
def test_the_assembler_of_driver_525_takes_the_ptx(tmp_path, ptx, target):
    [tool] = [f.locate() for f in metadata.files("nvidia-cuda-nvcc-cu12") if f.name == "ptxas"]
    archive = zipfile.ZipFile(ARCHIVE)
    for unit in Images().units:
        (tmp_path / "unit.ptx").write_bytes(archive.read(f"{ptx}/{unit}.ptx"))
        command = [tool, f"--gpu-name={target}", "--opt-level=1", "--output-file=unit.cubin", "unit.ptx"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
        assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("capability", "origins"),
    [
        ((7, 5), ["sm_75 cubin", "compute_75 ptx"]),
        ((8, 7), ["sm_86 cubin", "compute_80 ptx"]),
        ((10, 3), ["sm_100 cubin", "compute_80 ptx"]),
        ((11, 0), ["compute_80 ptx"]),
    ],
)
def test_which_images_suit_a_gpu(capability, origins):
    images = Images()
    found = [image.origin for image in images.shipped(next(iter(images.units)), capability)]
    assert found == [f"{origin} of NVRTC 12.9" for origin in origins]


def test_the_same_text_gives_the_same_bytes(builder, tmp_path):
    archives = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.cu").write_text(SOURCE)
        builder.build(tmp_path / name, tmp_path / f"{name}.zip")
        archives.append((tmp_path / f"{name}.zip").read_bytes())
    assert archives[0] == archives[1]
    assert Images(tmp_path / "a.zip").units == {"one": ["one"]}


def test_a_large_archive_is_refused(builder, tmp_path, monkeypatch):
    (tmp_path / "one.cu").write_text(SOURCE)
    monkeypatch.setattr(builder, "LARGEST_ARCHIVE_BYTES", 100)
    with pytest.raises(SystemExit, match="allowed are 100"):
        builder.build(tmp_path, tmp_path / "kernels.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["one.cu"]


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings NVRTC 13 on Linux alone")
@pytest.mark.parametrize("unit", ["norm_gate", "scan_adjoint"])  # together all headers; the others take minutes
def test_the_compiler_of_torch_takes_the_sources(builder, unit):
    compiler, sources = Nvrtc(installed("nvidia-cuda-nvrtc")), builder.read_sources(ROOT / "cuda")
    ptx = compiler.compile(f"{unit}.cu", sources, "compute_90").code
    assert re.findall(rb"\.entry (\w+)", ptx) == [name.encode() for name in Images().units[unit]]


def test_compile_errors_name_file_and_line(nvrtc):
    with pytest.raises(CompileError, match=r"NVRTC 12\.9 on one\.cu for sm_90: one\.cu\(2\): error: identifier \"b\""):
        nvrtc.compile("one.cu", {"one.cu": SOURCE.replace("a.p", "b.p")}, "sm_90")
    with pytest.raises(CompileError, match=r"for sm_10: .*invalid value"):
        nvrtc.compile("one.cu", {"one.cu": SOURCE}, "sm_10")


def test_headers_come_from_memory(nvrtc):
    struct, kernel = SOURCE.split("\n", 1)
    sources = {"one.cu": f'#include "struct.cuh"\n{kernel}', "struct.cuh": struct}
    code, log = nvrtc.compile("one.cu", sources, "sm_75", ["--ptxas-options=-v"])
    assert code.startswith(b"\x7fELF")
    assert re.search(r"Used \d+ registers", log)


def test_ptx_is_declared_older():
    assert lower_ptx_version(b"// a\n.version 8.8\n.target sm_80\n") == b"// a\n.version 8.0\n.target sm_80\n"


def test_a_missing_compiler_names_its_package():
    with pytest.raises(FileNotFoundError, match="pip install no-such-wheel"):
        installed("no-such-wheel")
