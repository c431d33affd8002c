"""NVRTC through ctypes: CUDA C++ text to a cubin (sm_90) or to PTX (compute_80), without a toolkit, GPU or driver.

One way for the wheel build, the tests and the run-time fallback. Standard library only, so that the wheel build loads
it without torch. Source: NVRTC 12.9 documentation. Test: tests/kernels/test_binaries.py.
"""

from __future__ import annotations

import ctypes
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# The oldest driver that is served, 525, reads PTX up to this version.
OLDEST_PTX_VERSION = "8.0"
_LIBRARY = re.compile(r"^(libnvrtc\.so\.\d+|nvrtc64_\d+_\d+\.dll)$")


class CompileError(RuntimeError):
    """NVRTC refused a program; the message is its log."""


class Compiled(NamedTuple):
    """A cubin, or PTX without its closing zero, and what the compiler said (with --ptxas-options=-v: registers)."""

    code: bytes
    log: str


def installed(distribution: str) -> Path:
    """Library of an installed wheel: nvidia-cuda-nvrtc-cu12 (12.x) or nvidia-cuda-nvrtc (13.x and newer).

    Raises:
        FileNotFoundError: the wheel is not installed, or holds no library.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if _LIBRARY.match(file.name):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"no NVRTC from {distribution}; run pip install {distribution}")


def lower_ptx_version(ptx: bytes) -> bytes:
    """The same PTX, declared to be of the version that driver 525 reads; our kernels use nothing newer."""
    return re.sub(rb"\.version\s+\S+", b".version " + OLDEST_PTX_VERSION.encode(), ptx, count=1)


class Nvrtc:
    """One NVRTC library."""

    def __init__(self, library: Path | str) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(
        self, name: str, sources: Mapping[str, str], architecture: str, options: Sequence[str] = ()
    ) -> Compiled:
        """Compile the source `name`; the others are what it may include.

        Args:
            name: a key of sources, the same in every build: it is in the output's bytes.
            sources: file names to texts.
            architecture: sm_NN for a cubin, compute_NN for PTX.
            options: more NVRTC options.

        Raises:
            CompileError: an error in the text, or an architecture this NVRTC does not know.
        """
        headers = {file: text for file, text in sources.items() if file != name}
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            sources[name].encode(),
            name.encode(),
            len(headers),
            _strings(headers.values()),
            _strings(headers),
        )
        try:
            flags = [f"--gpu-architecture={architecture}", "--std=c++17", *options]
            failed = self._library.nvrtcCompileProgram(program, len(flags), _strings(flags))
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
            if failed:
                raise CompileError(f"NVRTC {self.version} on {name} for {architecture}: {log or self._says(failed)}")
            if architecture.startswith("sm_"):
                return Compiled(self._read(program, "CUBIN"), log)
            return Compiled(self._read(program, "PTX").rstrip(b"\0"), log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(max(size.value, 1))
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw[: size.value]

    def _call(self, function: str, *arguments: object) -> None:
        failed = getattr(self._library, function)(*arguments)
        if failed:
            raise CompileError(f"{function}: {self._says(failed)}")

    def _says(self, code: int) -> str:
        return bytes(self._library.nvrtcGetErrorString(code)).decode()


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)
