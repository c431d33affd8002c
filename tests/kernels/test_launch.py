"""The launcher of CUDA kernels: its structs, and the tests that need a driver, in a process with a fake one."""

import os
import re
import struct
import subprocess
import sys

import pytest

from helpers import ROOT
from kernels.building import FOLDER, compile_shared
from mamba_yolo.ops import cuda_arguments
from mamba_yolo.ops.scan_plan import plan_forward, segment_tokens

STRUCTS = {
    "ScanForward": cuda_arguments.SCAN_FORWARD,
    "ScanBackward": cuda_arguments.SCAN_BACKWARD,
    "ScanSum": cuda_arguments.SCAN_SUM,
    "NormGate": cuda_arguments.NORM_GATE,
}
CODES = {"*": "Q", "i64": "q", "int": "i", "float": "f"}


def declared():
    """Struct names to (type code, field name) as declared in cuda/arguments.cuh."""
    text = re.sub(r"//.*", "", (ROOT / "cuda/arguments.cuh").read_text())
    return {name: fields(body) for name, body in re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL)}


def fields(body):
    found = []
    for statement in body.split(";"):
        if statement.strip():
            kind, first, *rest = re.fullmatch(r"\s*((?:const )?\w+\s*\*?)\s*(\w+)((?:, \w+)*)\s*", statement).groups()
            code = CODES["*" if "*" in kind else kind.strip()]
            found += [(code, name) for name in [first, *re.findall(r"\w+", *rest)]]
    return found


def test_structs_are_those_of_the_kernels():
    structs = declared()
    assert structs.keys() == STRUCTS.keys()
    for name, expected in structs.items():
        layout = STRUCTS[name]
        codes = [code for count, code in re.findall(r"(\d+)([Qqif])", layout.format) for _ in range(int(count))]
        assert list(zip(codes, layout.fields, strict=True)) == expected
        assert layout.size == struct.calcsize("@" + "".join(code for code, _ in expected)), "padding is written out"


@pytest.mark.parametrize(
    ("length", "warps", "segments"),
    [
        (25_600, 8, 115),  # t's P2, one image: 115 * 8 warps on 132 processors
        (400, 64, 13),  # P5, one image: no shorter than a tile
        (25_600, 8 * 64, 1),  # 64 images fill the device
        (25_600, 264, 1),  # half of it: splitting would only double the exponentials
        (25_600, 263, 4),  # as many as 8 warps per processor, the most that are under way at once
        (1, 1, 1),
        (33, 1, 2),
    ],
)
def test_sequences_are_cut_where_the_gpu_would_be_idle(length, warps, segments):
    tokens = segment_tokens(length, warps, num_processors=132)
    assert tokens % 32 == 0
    assert -(-length // tokens) == segments


@pytest.mark.parametrize(
    ("batch", "side", "channels", "rank", "kernel", "segments"),
    [
        (1, 160, 64, 2, "scan_forward", 16),  # t's P2, one image: 32 warps, for which the sequence is cut
        (1, 20, 512, 16, "scan_forward", 1),  # P5: half the GPU is busy, cutting would only double the exponentials
        (16, 160, 64, 2, "scan_sweep4", 1),  # the fewest states that give every part of every processor a warp
        (16, 80, 128, 4, "scan_sweep8", 1),
        (16, 40, 256, 8, "scan_sweep16", 1),
        (16, 20, 512, 16, "scan_sweep32", 1),
        (64, 80, 128, 4, "scan_sweep32", 1),
        (64, 80, 96, 4, "scan_sweep8", 1),  # channels that do not come in 128s or 64s
        (64, 80, 72, 4, "scan_forward", 1),  # nor in 16s
        (64, 79, 128, 4, "scan_forward", 1),  # tokens that do not come in spans
    ],
)
def test_the_cheapest_kernel_is_taken(batch, side, channels, rank, kernel, segments):
    plan = plan_forward(batch, side * side, channels, 16, rank, 4, is_map=True, num_processors=132)
    assert (plan.kernel, plan.segments) == (kernel, segments)
    assert plan.blocks * plan.threads % (batch * 4 * segments) == 0
    assert plan.shared_bytes <= 48 << 10
    assert plan.segment_tokens * segments >= side * side
    sequence = plan_forward(batch, side * side, channels, 16, 0, 1, is_map=False, num_processors=132)
    assert sequence.kernel == "scan_forward"


@pytest.mark.parametrize(("batch", "scan_us", "planes"), [(1, 265, 4), (16, 105, 2), (64, 97, 2)])
def test_what_the_model_predicts_of_ten_blocks(batch, scan_us, planes):
    """t at 640 px on an H200, per image, as docs/adr/008 has it: side, channels, rank and number of its scans."""
    clock_mhz = 1980
    blocks = [(160, 64, 2, 1), (80, 128, 4, 2), (40, 256, 8, 5), (20, 512, 16, 2)]
    plans = [plan_forward(batch, side * side, d, 16, rank, 4, True, 132) for side, d, rank, _ in blocks]
    total = sum(count * plan.slots for plan, (*_, count) in zip(plans, blocks, strict=True)) / clock_mhz / batch
    assert scan_us - 1 < total <= scan_us
    assert max(plan.parts for plan in plans) == planes


@pytest.mark.skipif(sys.platform != "linux", reason="the fake driver is a Linux library")
def test_launches_and_scans_through_a_fake_driver(tmp_path):
    (tmp_path / "driver").mkdir()
    compile_shared(tmp_path / "driver/libcuda.so.1", FOLDER / "fake_driver.cpp")
    path = os.pathsep.join([str(tmp_path / "driver"), os.environ.get("LD_LIBRARY_PATH", "")])
    files = ["tests/kernels/with_fake_driver.py", "tests/kernels/with_fake_driver_scan.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    env = {**os.environ, "LD_LIBRARY_PATH": path, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
