"""`mamba-yolo doctor`: what this machine will use and why, each with a one-line self test.

Exit code 1 when something that should work does not; a missing GPU is no fault. Test: tests/cli/test_doctor.py.
"""

from __future__ import annotations

import functools
import io
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from mamba_yolo import __native_version__, __version__
from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.data import decode_image
from mamba_yolo.errors import BackendError, MambaYoloError
from mamba_yolo.ops import nms, ss2d_scan
from mamba_yolo.ops.dispatch import choose_backend, cpu_level, cuda_kernels_of, threads_are_torchs

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamba_yolo.cli.commands import DoctorConfig

CPU = torch.device("cpu")
SCAN_TOLERANCE = 1e-4
DRIVER_FILE = Path("/proc/driver/nvidia/version")


class Finding(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    test: str
    ok: bool


def run(config: DoctorConfig) -> Outcome:
    """Look and test."""
    findings = [
        Finding("mamba-yolo", f"{__version__}, native module {__native_version__}", *_same_version()),
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", "", ok=True),
        Finding("torch", torch.__version__, *_tested(_torch_adds)),
        Finding("threads", _threads(), "", ok=True),
        Finding("CPU scan", _cpu_scan(), *_tested(functools.partial(_scan_equals_definition, CPU))),
        Finding("CPU NMS", "rust", *_tested(_nms_drops_the_double)),
        Finding("image decoder", "rust", *_tested(_image_survives)),
        *_gpu(),
    ]
    rows = [(f.what, f.found, f.test, "ok" if f.ok else "FAULT") for f in findings]
    healthy = all(f.ok for f in findings)
    verdict = "everything works" if healthy else "something is wrong: see the lines with FAULT"
    data = {"ok": healthy, "findings": [f._asdict() for f in findings]}
    return Outcome([table("", ("what", "found", "self test", ""), rows), verdict], data, 0 if healthy else 1)


def _tested(test: Callable[[], str]) -> tuple[str, bool]:
    """Run a self test: what it says, and whether it passed."""
    try:
        return test(), True
    except (MambaYoloError, ArithmeticError, RuntimeError, OSError) as error:
        return " ".join(str(error).split()), False


def _same_version() -> tuple[str, bool]:
    same = __version__ == __native_version__
    return ("versions agree" if same else "versions differ: install the package again"), same


def _torch_adds() -> str:
    total = float(torch.ones(3, 3).mm(torch.ones(3, 3)).sum())
    _require(total == 27, f"3x3 product of ones sums to {total}, expected 27")
    return "3x3 product is right"


def _threads() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    owner = "torch's own team" if threads_are_torchs() else "a pool of their own"
    return f"{torch.get_num_threads()}, the kernels on {owner}; this process may use {usable} processors"


def _cpu_scan() -> str:
    """Backend of the scan on the CPU."""
    forced = os.environ.get("MAMBA_YOLO_BACKEND", "auto")
    why = "chosen for CPU tensors" if forced == "auto" else f"MAMBA_YOLO_BACKEND={forced}"
    backend = choose_backend("auto", CPU)
    level = f", level {cpu_level()}" if backend == "rust" else ""
    return f"{backend}{level} ({why})"


def _scan_equals_definition(device: torch.device) -> str:
    generator = torch.Generator().manual_seed(0)
    inner, rank, states, height, width, directions = 8, 1, 16, 5, 7, 4
    shapes = {
        "x": (1, height * width, inner),
        "proj": (1, height * width, directions * (rank + 2 * states)),
        "dt_weight": (directions, inner, rank),
        "dt_bias": (directions, inner),
        "A_logs": (directions * inner, states),
        "Ds": (directions * inner,),
    }
    tensors = {name: torch.randn(shape, generator=generator).to(device) for name, shape in shapes.items()}
    sides = {"height": height, "width": width}
    expected = ss2d_scan(**tensors, **sides, backend="reference")  # type: ignore[arg-type]
    backend = "cuda" if device.type == "cuda" else choose_backend("auto", device)
    got = ss2d_scan(**tensors, **sides, backend=backend)  # type: ignore[arg-type]
    off = float((got - expected).abs().max() / expected.abs().max())
    _require(off < SCAN_TOLERANCE, f"differs from the definition by {off:.1e}, allowed {SCAN_TOLERANCE:.0e}")
    return f"equals the definition to {off:.0e}"


def _nms_drops_the_double() -> str:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 9]])
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    _require(kept == [0, 1], f"kept {kept}, expected [0, 1]")
    return "drops a double box"


def _image_survives() -> str:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    _require(bool((decode_image(file.getvalue()) == image).all()), "a PNG came back with other pixels")
    return "a PNG comes back unchanged"


def _gpu() -> list[Finding]:
    """GPU, driver and CUDA kernels."""
    if not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU or no driver"
        return [Finding("GPU", f"none: {reason}", "the CPU is used", ok=True), *_cuda_kernels(1)]
    findings = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gib = properties.total_memory / 2**30
        found = f"{properties.name}, {gib:.0f} GiB, compute {properties.major}.{properties.minor}"
        found = f"{found}, CUDA {torch.version.cuda}, driver {_driver()}"
        findings.append(Finding(f"GPU {index}", found, *_tested(functools.partial(_gpu_adds, index))))
    return [*findings, *_cuda_kernels(torch.cuda.device_count())]


def _cuda_kernels(num_gpus: int) -> list[Finding]:
    """What the kernels of each GPU are from, or why they are off; a fault only where they were asked for."""
    findings = []
    for index in range(num_gpus):
        what = f"CUDA kernels, GPU {index}" if num_gpus > 1 else "CUDA kernels"
        try:
            found = cuda_kernels_of(index)
        except BackendError as error:
            forced = os.environ.get("MAMBA_YOLO_BACKEND") == "cuda"
            findings.append(Finding(what, f"off: {error}", "MAMBA_YOLO_BACKEND=cuda" if forced else "", ok=not forced))
            continue
        test = functools.partial(_scan_equals_definition, torch.device("cuda", index))
        findings.append(Finding(what, found, *_tested(test)))
    return findings


def _driver() -> str:
    """Version of the NVIDIA driver; only Linux tells it in a file."""
    if not DRIVER_FILE.is_file():
        return "unknown"
    found = re.search(r"\d+\.\d+(\.\d+)?", DRIVER_FILE.read_text(encoding="utf-8"))
    return found[0] if found else "unknown"


def _gpu_adds(index: int) -> str:
    total = float(torch.ones(3, device=f"cuda:{index}").sum())
    _require(total == 3, f"three ones sum to {total}")
    return "adds three ones"


def _require(fulfilled: bool, otherwise: str) -> None:
    if not fulfilled:
        raise ArithmeticError(otherwise)
