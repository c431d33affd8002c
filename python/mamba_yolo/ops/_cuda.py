"""CUDA through cuda-python, here and nowhere else: loads the kernels for a GPU and launches them on torch's streams.

No call synchronises, allocates on the GPU or keeps a stream, so launches may be captured into a CUDA graph once the
kernels are loaded (`warmup`). A launch takes one struct; its bytes lie in a buffer of the calling thread, which the
driver copies before it returns. Test: tests/kernels/with_fake_driver.py.

Sources: CUDA driver API 12.0 (cuLibraryLoadData, cuLaunchKernel); docs/adr/006-cuda-kernels-and-their-launch.md.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.errors import BackendError
from mamba_yolo.ops._nvrtc import CompileError, Nvrtc
from mamba_yolo.ops.cuda_images import OLDEST_CAPABILITY, Images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from struct import Struct

    from mamba_yolo.ops.cuda_images import Image

OLDEST_DRIVER = 12000  # what cuDriverGetVersion says in driver 525
LARGEST_STRUCT_BYTES = 256


class _Slot(threading.local):
    """A thread's struct, and the array of one pointer to it that the driver wants."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(LARGEST_STRUCT_BYTES)
        self._pointers = (ctypes.c_void_p * 1)(ctypes.addressof(self.buffer))
        self.address = ctypes.addressof(self._pointers)


class Gpu:
    """The kernels of one GPU."""

    def __init__(self, index: int) -> None:
        """Load every kernel, on the GPU that is current.

        Raises:
            BackendError: bindings, driver or GPU cannot run them; says what is missing.
        """
        self.index = index
        self.num_processors: int = torch.cuda.get_device_properties(index).multi_processor_count
        self._driver = _import_driver()
        self._launch_kernel = self._driver.cuLaunchKernel
        self._slot = _Slot()
        self._kernels: dict[str, int] = {}
        images = Images()
        capability = torch.cuda.get_device_capability(index)
        if capability < OLDEST_CAPABILITY:
            raise BackendError(
                f"GPU {index} has compute capability {_dotted(capability)}, the CUDA kernels need "
                f"{_dotted(OLDEST_CAPABILITY)} (Turing) or newer; use backend 'reference'"
            )
        units = images.units.items()
        origins = [self._load(unit, names, _candidates(images, unit, capability)) for unit, names in units]
        self.origin = ", ".join(dict.fromkeys(origins))

    def launch(self, kernel: str, blocks: int, threads: int, shared_bytes: int, layout: Struct, *fields: Any) -> None:
        """Start a kernel on torch's current stream of this GPU.

        Args:
            kernel: exported name.
            blocks: grid size x.
            threads: block size x.
            shared_bytes: dynamic shared memory, at most 48 KiB.
            layout: of the kernel's only argument, a struct of at most 256 bytes.
            fields: its values.

        Raises:
            BackendError: the driver refused, with its reason.
        """
        if current_device() != self.index:
            with torch.cuda.device(self.index):
                self.launch(kernel, blocks, threads, shared_bytes, layout, *fields)
            return
        slot = self._slot
        layout.pack_into(slot.buffer, 0, *fields)
        stream, function = current_stream(self.index), self._kernels[kernel]
        (status,) = self._launch_kernel(function, blocks, 1, 1, threads, 1, 1, shared_bytes, stream, slot.address, 0)
        if status:
            raise BackendError(f"{kernel} on GPU {self.index}: the driver says {status.name}")

    def _load(self, unit: str, names: list[str], images: Iterator[Image]) -> str:
        """Load a unit from the first image that the driver takes; where that one is from."""
        refusals = []
        try:
            for image in images:
                try:
                    self._kernels.update(self._load_image(image.code, names))
                except BackendError as error:
                    refusals.append(f"{image.origin}: {error}")
                else:
                    return image.origin
        except CompileError as error:
            refusals.append(" ".join(str(error).split()))
        raise BackendError(
            f"GPU {self.index} takes none of the CUDA kernels of {unit} ({'; '.join(refusals)}); update the driver, or "
            "pip install nvidia-cuda-nvrtc so that they can be compiled here"
        )

    def _load_image(self, code: bytes, names: list[str]) -> dict[str, int]:
        driver = self._driver
        library = self._checked(driver.cuLibraryLoadData(code + b"\0", [], [], 0, [], [], 0))
        kernels = {name: self._checked(driver.cuLibraryGetKernel(library, name.encode())) for name in names}
        for kernel in kernels.values():
            self._checked(driver.cuKernelGetFunction(kernel))  # drivers load late; a capture must not be the first use
        return {name: int(kernel) for name, kernel in kernels.items()}

    @staticmethod
    def _checked(outcome: tuple[Any, Any]) -> Any:
        status, result = outcome
        if status:
            raise BackendError(status.name)
        return result


def gpu(index: int) -> Gpu:
    """The GPU with its kernels loaded, at the first call.

    Raises:
        BackendError: says why its kernels cannot run, or that they were first asked for while a graph is captured.
    """
    found = _gpus.get(index)
    if found is None:
        with _loading:
            found = _gpus.get(index) or _open(index)
    if isinstance(found, BackendError):
        raise BackendError(str(found))
    return found


def why_not(index: int) -> str | None:
    """Why the kernels cannot run on a GPU, in one sentence; None when they can.

    Raises:
        BackendError: they are first asked for while a graph is captured.
    """
    try:
        gpu(index)
    except _CaptureError:
        raise
    except BackendError as error:
        return str(error)
    return None


# All that torch.compiler.assume_constant_result does, after importing torch's compiler: half as long as torch itself.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]


def warmup(device: torch.device | str | int = "cuda") -> None:
    """Load the kernels of a GPU now instead of at their first use, as has to be done before a CUDA graph is captured.

    Raises:
        BackendError: says why they cannot run.
    """
    chosen = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if chosen.type != "cuda":
        raise BackendError(f"CUDA kernels run on NVIDIA GPUs, not on {chosen}")
    _require_torch_gpu()
    gpu(torch.cuda.current_device() if chosen.index is None else chosen.index)


_gpus: dict[int, Gpu | BackendError] = {}
_loading = threading.Lock()


def _open(index: int) -> Gpu | BackendError:
    """Load, and remember a failure: nothing about it changes while the process lives."""
    try:
        _require_torch_gpu()
        if torch.cuda.is_current_stream_capturing():
            raise _CaptureError("load the CUDA kernels before a graph is captured: call mamba_yolo.ops.warmup()")
        with torch.cuda.device(index):
            make_context(index)
            _gpus[index] = Gpu(index)
    except _CaptureError:
        raise
    except BackendError as error:
        _gpus[index] = error
    return _gpus[index]


class _CaptureError(BackendError):
    """A failure that the next call may not meet."""


def _require_torch_gpu() -> None:
    if torch.version.cuda is None:
        raise BackendError(f"torch {torch.__version__} is built without CUDA; install a CUDA build, or use the CPU")
    if not torch.cuda.is_available():
        raise BackendError(f"torch {torch.__version__} sees no NVIDIA GPU or no driver here; use the CPU")


@cache
def _import_driver() -> Any:
    """cuda.bindings.driver, of a driver that is new enough."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError(f"the CUDA kernels need cuda-python ({error}); run pip install 'mamba-yolo[cuda]'") from None
    status, version = driver.cuDriverGetVersion()
    if status:
        raise BackendError(f"the NVIDIA driver does not answer ({status.name}); restart or reinstall it")
    if version < OLDEST_DRIVER:
        raise BackendError(
            f"the NVIDIA driver supports CUDA {version // 1000}.{version % 1000 // 10}, the kernels need 12.0; update "
            "it to 525 or newer"
        )
    return driver


def _candidates(images: Images, unit: str, capability: tuple[int, int]) -> Iterator[Image]:
    """Images in the order of trial: our cubin, our PTX through the driver's compiler, our text through NVRTC."""
    yield from images.shipped(unit, capability)
    yield images.compiled(unit, capability, _find_nvrtc())


@cache
def _find_nvrtc() -> Nvrtc:
    """NVRTC as installed with torch, pip or a CUDA toolkit."""
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        return Nvrtc(load_nvidia_dynamic_lib("nvrtc").abs_path)
    except (DynamicLibNotFoundError, OSError) as error:
        raise CompileError(f"no NVRTC to compile them here: {error}") from None


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def make_context(index: int) -> None:
    """Let torch make its context on a GPU, which it does at its first allocation there."""
    torch.empty(1, device=torch.device("cuda", index))


def current_device() -> int:
    """The GPU that is current in this thread."""
    return torch.cuda.current_device()


def _stream_by_public_name(index: int) -> int:
    return torch.cuda.current_stream(index).cuda_stream


# The public name makes a Stream object each time (4 us); this one is what torch's own compiler calls.
current_stream = getattr(torch._C, "_cuda_getCurrentRawStream", _stream_by_public_name)
