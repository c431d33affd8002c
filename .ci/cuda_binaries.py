"""Compiles cuda/*.cu for every GPU generation into one archive: python .ci/cuda_binaries.py ARCHIVE.

Needs pip packages only: nvidia-cuda-nvrtc-cu12 12.9, whose cubins drivers since 525 load (NVRTC 13 writes another ELF
ABI), and no CUDA toolkit, GPU or driver. The same text and compiler give the same bytes.
Test: tests/kernels/test_binaries.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPILER = "nvidia-cuda-nvrtc-cu12"
COMPILER_VERSION = "12.9"
# Turing, A100, Ampere, Ada, Hopper, Blackwell for servers and for desks; PTX for what comes after.
CUBINS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
PTX = ("compute_75", "compute_80")
LARGEST_ARCHIVE_BYTES = 2_000_000


def load_nvrtc_module() -> Any:
    """ops/_nvrtc.py by its path: importing the package would ask for torch."""
    name = "mamba_yolo_nvrtc"
    spec = importlib.util.spec_from_file_location(name, ROOT / "python/mamba_yolo/ops/_nvrtc.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nvrtc = load_nvrtc_module()


def read_sources(folder: Path) -> dict[str, str]:
    """Names and texts of the kernels and their headers."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".cu", ".cuh"))
    return {p.name: p.read_text(encoding="utf-8") for p in files}


def build(folder: Path, archive: Path) -> None:
    """Compile every unit of a folder for every target and write the archive, whole or not at all."""
    sources = read_sources(folder)
    units = [name.removesuffix(".cu") for name in sources if name.endswith(".cu")]
    jobs = [(unit, target, sources) for target in (*CUBINS, *PTX) for unit in units]
    with ProcessPoolExecutor() as processes:
        codes = list(processes.map(_compile, jobs))
    images = {_member(unit, target): code for (unit, target, _), code in zip(jobs, codes, strict=True)}
    kernels = {unit: _entries(images[_member(unit, PTX[0])]) for unit in units}
    contents = {"compiler": COMPILER_VERSION, "targets": [*CUBINS, *PTX], "units": kernels}
    members = {"contents.json": json.dumps(contents, indent=1).encode()}
    members |= {f"sources/{name}": text.encode() for name, text in sources.items()} | images
    temporary = archive.with_name(f".{archive.name}.tmp")
    _write_zip(temporary, members)
    size = temporary.stat().st_size
    if size > LARGEST_ARCHIVE_BYTES:
        temporary.unlink()
        raise SystemExit(f"{archive.name} would take {size} bytes, allowed are {LARGEST_ARCHIVE_BYTES}")
    temporary.replace(archive)
    raw = sum(map(len, images.values()))
    print(f"{archive.name}: {len(images)} images, {size / 1e3:.0f} KB, {raw / 1e3:.0f} KB unpacked")


def _compile(job: tuple[str, str, dict[str, str]]) -> bytes:
    unit, target, sources = job
    compiler = nvrtc.Nvrtc(nvrtc.installed(COMPILER))
    if compiler.version != COMPILER_VERSION:
        raise SystemExit(f"{COMPILER} is {compiler.version}, the kernels are built with {COMPILER_VERSION}")
    code = compiler.compile(f"{unit}.cu", sources, target).code
    return nvrtc.lower_ptx_version(code) if target in PTX else code


def _member(unit: str, target: str) -> str:
    return f"{target}/{unit}.{'ptx' if target in PTX else 'cubin'}"


def _entries(ptx: bytes) -> list[str]:
    """Names of the kernels in a PTX text."""
    return [name.decode() for name in re.findall(rb"\.entry\s+(\w+)", ptx)]


def _write_zip(path: Path, members: dict[str, bytes]) -> None:
    """A zip whose bytes depend on the members alone: no times, no owners. LZMA halves what deflate leaves of cubins."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/cuda_binaries.py ARCHIVE")
    build(ROOT / "cuda", Path(sys.argv[1]))
