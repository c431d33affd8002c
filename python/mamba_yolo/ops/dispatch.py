"""Which backend runs an operation: the argument, else MAMBA_YOLO_BACKEND, else the tensor's device."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

import torch

from mamba_yolo.errors import BackendError, ConfigError
from mamba_yolo.ops._native import native

if TYPE_CHECKING:
    from collections.abc import Sequence

Backend = Literal["reference", "rust", "cuda"]
BACKENDS = ("auto", "reference", "rust", "cuda")
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))


def choose_backend(backend: str, device: torch.device) -> Backend:
    """Resolve "auto" and refuse what cannot run on `device`.

    Raises:
        ConfigError: an unknown backend name.
        BackendError: rust for a tensor that is not on the CPU, cuda for one that is not on a GPU.
    """
    if backend == "auto":
        backend = os.environ.get("MAMBA_YOLO_BACKEND", "auto")
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        return _for_device(device.type)
    if backend in ("auto", "rust"):
        cpu_level()
    if backend == "rust" and device.type not in ("cpu", "meta"):
        raise BackendError(f"backend 'rust' runs on the CPU, the tensor is on {device}; move it or use 'reference'")
    if backend == "cuda":
        raise BackendError("backend 'cuda' is not part of this version; use 'reference' on a GPU or 'rust' on the CPU")
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
    """Whether a call is ordinary eager work on the CPU: no tracing, no mode, no transform, no tensor subclass.

    All tensors are on the device of the first, which is one.
    """
    first = tensors[0]
    return (
        first is not None
        and first.is_cpu
        and _PLAIN.issuperset(map(type, tensors))
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def _for_device(kind: str) -> Backend:
    if kind in ("cpu", "meta"):
        return "rust"
    _warn_once_about(kind)
    return "reference"


@cache
def _warn_once_about(kind: str) -> None:
    message = f"no kernels for {kind} tensors in this version: using the slow torch definition"
    warnings.warn(message, RuntimeWarning, stacklevel=4)
