"""The CPU twin of a GPU: builds the kernels of `cuda/` with g++ and runs them, for tests only.

A kernel file is compiled as it is, with `cuda_host.h` in place of the GPU's words, and linked with `runtime.cpp`. Three
builds: plain (guard pages, NaN poison), check (`checker.cpp`: races, bounds, uninitialised memory, by access), ubsan.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

TWIN = Path(__file__).parent
KERNELS = TWIN.parents[2] / "cuda"
COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-w", f"-I{KERNELS}"]
BUILDS = {
    "plain": ["-O2", "-march=native"],
    "contracted": ["-O2", "-march=native", "-ffp-contract=fast"],
    "check": [
        "-O1", "-g", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-fno-tree-vectorize",
        "-fno-omit-frame-pointer",
    ],
    "ubsan": ["-O1", "-g", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"],
}  # fmt: skip


class Launch(ctypes.Structure):
    """TwinLaunch of runtime.h."""

    _fields_ = [
        *[(name, ctypes.c_uint64) for name in ("blocks", "first", "count", "code")],
        *[(name, ctypes.c_uint32) for name in ("threads", "shared_bytes", "order", "jitter", "seconds")],
        ("error", ctypes.c_char * 504),
    ]


class Line(ctypes.Structure):
    """Traffic::Line of traffic.h: requests of warps by one instruction, wavefronts or sectors they took, the fewest."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("code", "shared", "requests", "cost", "fewest")]


class KernelError(RuntimeError):
    """What a kernel did wrong."""


def library(source: str, build: str = "plain") -> ctypes.CDLL:
    """Compile a kernel file of `cuda/` and load it; objects are kept between runs, by content."""
    return _library(KERNELS / source, build)


@functools.cache
def _library(path: Path, build: str) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        raise RuntimeError("g++ was not found; the tests of the CUDA kernels need it (Debian: apt install g++)")
    header = ["-include", str(TWIN / "cuda_host.h"), "-x", "c++"]
    kernel = _compiled(path, [*BUILDS[build], *header])
    runtime = ["runtime.cpp", "memory.cpp", "checker.cpp" if build == "check" else "unchecked.cpp"]
    objects = [kernel, *(_compiled(TWIN / name, ["-O2"]) for name in runtime)]
    target = kernel.with_suffix(".so")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            linked = Path(scratch) / target.name
            _run("g++", "-shared", "-Wl,-Bsymbolic", *map(str, objects), "-o", str(linked))
            linked.replace(target)
    return ctypes.CDLL(str(target))


def _compiled(path: Path, options: list[str]) -> Path:
    """The object of a source file, kept under a name made of everything it depends on."""
    headers = sorted(
        p for folder in (path.parent, TWIN) for p in folder.iterdir() if p.suffix in (".cuh", ".h", ".cpp")
    )
    key = hashlib.sha256(" ".join(options).encode() + b"".join(p.read_bytes() for p in [path, *headers])).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"mamba_yolo_twin_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{path.stem}-{key[:16]}.o"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "made.o"
            _run("g++", *COMMON, *options, "-c", str(path), "-o", str(made))
            made.replace(target)
    return target


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")


class Machine:
    """One build of one kernel file, with its memory."""

    def __init__(self, source: str, build: str = "plain") -> None:
        """Of a file name in `cuda/`."""
        self.library = library(source, build)
        self.build = build
        self.library.twin_allocate.restype = ctypes.c_void_p
        self.library.twin_allocate.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
        self.library.twin_free_all.argtypes = []

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.twin_free_all()

    def address(self, name: str, num_bytes: int, *, writable: bool, initialised: bool) -> int:
        """Memory that ends at a guard page; untouched pages cost nothing."""
        return int(self.library.twin_allocate(num_bytes, name.encode(), writable, initialised))

    def put(self, name: str, values: np.ndarray) -> int:
        """Copy an input in, read-only for the checker."""
        pointer = self.address(name, values.nbytes, writable=False, initialised=True)
        ctypes.memmove(pointer, np.ascontiguousarray(values).ctypes.data, values.nbytes)
        return pointer

    def room(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> tuple[int, np.ndarray]:
        """An output filled with NaN: its address and a view."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = self.address(name, size, writable=True, initialised=False)
        ctypes.memset(pointer, 0xFF, size)
        view = np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)
        return pointer, view

    def launch(
        self, kernel: str, arguments: ctypes.Structure, blocks: int, threads: int, shared: int, **how: int
    ) -> None:
        """Run a kernel; how: order, jitter, first, count, seconds."""
        launch = Launch(blocks=blocks, threads=threads, shared_bytes=shared, **{"seconds": 60, **how})
        if self.library[kernel](ctypes.byref(arguments), ctypes.sizeof(arguments), ctypes.byref(launch)):
            raise KernelError(f"{kernel}: {self._place(launch.code)}{launch.error.decode()}")

    def traffic(self) -> list[tuple[str, Line]]:
        """Where the last launch of a check build touched memory, and what it cost there."""
        lines = (Line * 4096)()
        count = self.library.twin_traffic(lines, len(lines))
        return [(self._place(line.code).rstrip(": "), line) for line in lines[:count]]

    def _place(self, offset: int) -> str:
        if not offset:
            return ""
        command = ["addr2line", "-i", "-s", "-e", self.library._name, hex(offset - 1)]
        frames = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        of_kernel = [f.split()[0] for f in frames if ".cu" in f and "cuda_host" not in f]
        return f"{(of_kernel or frames)[0]}: "
