"""The CUDA kernels as files: which image of a unit suits a GPU, and the disk cache of images compiled on this machine.

A unit is one file cuda/*.cu, an image its cubin or PTX. `.ci/cuda_binaries.py` compiles all of them into the archive
beside this file, sources included. No GPU, torch or driver is needed here. Test: tests/kernels/test_binaries.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mamba_yolo.errors import BackendError
from mamba_yolo.folders import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mamba_yolo.ops._nvrtc import Nvrtc

ARCHIVE = Path(__file__).with_name("cuda_kernels.zip")
OLDEST_CAPABILITY = (7, 5)
_DIGEST_BYTES = 32
_log = logging.getLogger(__name__)


class Image(NamedTuple):
    """What a driver loads, and where it is from, for people."""

    code: bytes
    origin: str


class Images:
    """An archive of kernels."""

    def __init__(self, archive: Path = ARCHIVE) -> None:
        """Read the table of contents.

        Raises:
            BackendError: no archive, or none of ours.
        """
        try:
            self._zip = zipfile.ZipFile(archive)
            contents = json.loads(self._zip.read("contents.json"))
        except FileNotFoundError:
            raise BackendError(
                f"this installation has no compiled CUDA kernels ({archive.name}); install a wheel, or run "
                "`make build` in a checkout"
            ) from None
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise BackendError(f"{archive} is damaged ({error}); install the package again") from None
        except RuntimeError as error:  # a Python built without lzma
            raise BackendError(f"{archive.name} cannot be unpacked ({error}); use a complete Python") from None
        self.compiler: str = contents["compiler"]
        self.units: dict[str, list[str]] = contents["units"]
        self._targets: list[str] = contents["targets"]

    def shipped(self, unit: str, capability: tuple[int, int]) -> Iterator[Image]:
        """The cubin for a GPU of this compute capability or an older one of its generation, then the newest PTX."""
        number = capability[0] * 10 + capability[1]
        for prefix, oldest, suffix in (("sm_", capability[0] * 10, "cubin"), ("compute_", 0, "ptx")):
            targets = [int(t.removeprefix(prefix)) for t in self._targets if t.startswith(prefix)]
            fitting = [t for t in targets if oldest <= t <= number]
            if fitting:
                name = f"{prefix}{max(fitting)}"
                origin = f"{name} {suffix} of NVRTC {self.compiler}"
                yield Image(self._zip.read(f"{name}/{unit}.{suffix}"), origin)

    def compiled(self, unit: str, capability: tuple[int, int], nvrtc: Nvrtc) -> Image:
        """A cubin made on this machine, or the one that was made here earlier from the same text by the same compiler.

        Raises:
            CompileError: NVRTC does not know the architecture.
        """
        sources = self.sources()
        architecture = f"sm_{capability[0]}{capability[1]}"
        origin = f"{architecture} cubin compiled here by NVRTC {nvrtc.version}"
        key = json.dumps([unit, architecture, nvrtc.version, sources], sort_keys=True)
        file = cache_folder() / "cuda" / f"{unit}-{architecture}-{_digest(key.encode()).hex()[:32]}.cubin"
        code = _read_checked(file)
        if code is None:
            code = nvrtc.compile(f"{unit}.cu", sources, architecture).code
            _write_checked(file, code)
        return Image(code, origin)

    def sources(self) -> dict[str, str]:
        """Names and texts of all files of cuda/."""
        names = [n for n in self._zip.namelist() if n.startswith("sources/")]
        return {n.removeprefix("sources/"): self._zip.read(n).decode() for n in names}


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _read_checked(file: Path) -> bytes | None:
    """What `_write_checked` wrote; None when there is nothing, or something else."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if _digest(code) == digest else None


def _write_checked(file: Path, code: bytes) -> None:
    """Put digest and code into the file, whole or not at all; a folder that cannot be written costs time, no more."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_digest(code) + code)
        temporary.replace(file)
    except OSError as error:
        _log.warning("cannot keep compiled CUDA kernels, they will be compiled again: %s", error)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
