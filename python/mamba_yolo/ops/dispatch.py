"""Which backend runs an operation: the argument, else MAMBA_YOLO_BACKEND, else the tensor's device."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

import torch

from mamba_yolo.errors import BackendError, ConfigError
from mamba_yolo.ops import _cuda
from mamba_yolo.ops._native import native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Backend = Literal["reference", "rust", "cuda"]
BACKENDS = ("auto", "reference", "rust", "cuda")
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))


def choose_backend(backend: str, device: torch.device, why_not_cuda: Callable[[], str | None] | None = None) -> Backend:
    """Resolve "auto" and refuse what cannot run on `device`.

    Args:
        backend: auto, reference, rust or cuda.
        device: of the operation's tensors.
        why_not_cuda: of an operation with CUDA kernels: why they cannot run on these tensors on a GPU, or None.
            An operation without them consists of torch's own on a GPU; MAMBA_YOLO_BACKEND=cuda does not concern it.

    Raises:
        ConfigError: an unknown backend name.
        BackendError: rust for a tensor that is not on the CPU, cuda where it cannot run.
    """
    asked = backend
    if backend == "auto":
        backend = os.environ.get("MAMBA_YOLO_BACKEND", "auto")
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "cuda" and asked == "auto" and why_not_cuda is None:
        backend = "auto"
    if backend == "auto":
        return _for_device(device.type, why_not_cuda)
    if backend == "rust":
        cpu_level()
        if device.type not in ("cpu", "meta"):
            raise BackendError(f"backend 'rust' runs on the CPU, the tensor is on {device}; move it or use 'reference'")
    if backend == "cuda":
        _require_cuda(device, why_not_cuda)
    return cast("Backend", backend)


@cache
def cpu_level() -> str:
    """Vector level of the Rust kernels: scalar, portable, avx2, avx512 or neon; the best here or MAMBA_YOLO_CPU's.

    Raises:
        ConfigError: MAMBA_YOLO_CPU names a level that this machine does not have.
    """
    try:
        return native.cpu_level()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def cuda_kernels_of(index: int) -> str:
    """Where the CUDA kernels of a GPU are from: "sm_90 cubin of NVRTC 12.9", ...

    Raises:
        BackendError: why they cannot run.
    """
    return _cuda.gpu(index).origin


def threads_are_torchs() -> bool:
    """Whether the Rust kernels run on torch's own OpenMP threads in this process, or on a pool of their own."""
    return native.thread_owner() == "torch"


def needs_grad(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether a gradient of any of these tensors will be asked for."""
    if torch.is_grad_enabled():
        for tensor in tensors:  # any() over a generator takes twice as long, and small maps notice
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in `dtype`; itself at a tenth of what asking torch for the conversion takes, if it is that already."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def is_plain(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether a call is ordinary eager work: no tracing, no mode, no transform, no tensor subclass.

    All tensors are on the device of the first, which is one.
    """
    first = tensors[0]
    return (
        first is not None
        and (first.is_cpu or first.is_cuda)
        and _PLAIN.issuperset(map(type, tensors))
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def _for_device(kind: str, why_not_cuda: Callable[[], str | None] | None) -> Backend:
    if kind in ("cpu", "meta"):
        return "rust"
    if kind == "cuda":
        if why_not_cuda is None:
            return "reference"
        reason = why_not_cuda()
        if reason is None:
            return "cuda"
        _warn_once(reason)
    else:
        _warn_once(f"there are no kernels for {kind} tensors")
    return "reference"


def _require_cuda(device: torch.device, why_not_cuda: Callable[[], str | None] | None) -> None:
    if why_not_cuda is None:
        raise BackendError("this operation has no CUDA kernel; use 'auto', which takes torch's own kernels on a GPU")
    if device.type == "meta":
        return
    if device.type != "cuda":
        todo = "move it to one" if torch.cuda.is_available() else "torch sees none here, use 'auto'"
        raise BackendError(f"backend 'cuda' runs on NVIDIA GPUs, the tensor is on {device}; {todo}")
    reason = why_not_cuda()
    if reason is not None:
        raise BackendError(f"backend 'cuda' cannot run: {reason}")


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"using the slow torch definition of the scan: {reason}", RuntimeWarning, stacklevel=5)
