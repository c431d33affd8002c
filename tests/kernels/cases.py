"""Arguments of the CUDA kernels as the launcher packs them, small scans, and their results in float64."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import torch

from kernels.twin.machine import KERNELS, Machine
from mamba_yolo.ops.scan_ref import selective_scan_ref, ss2d_scan_ref
from ops.scan_cases import map_inputs, sequence_inputs

TYPES = {"*": ctypes.c_void_p, "i64": ctypes.c_int64, "int": ctypes.c_int32, "float": ctypes.c_float}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def structure(name: str) -> type[ctypes.Structure]:
    """A struct of arguments.cuh, read from its text."""
    text = (KERNELS / "arguments.cuh").read_text("utf-8")
    body = re.sub(r"//.*", "", re.search(rf"struct {name} {{(.*?)^}};", text, re.S | re.M)[1])
    fields = []
    for kind, names in re.findall(r"(const void\*|void\*|const float\*|float\*|i64|int|float) ([\w, ]+);", body):
        fields += [(n.strip(), TYPES["*" if kind.endswith("*") else kind]) for n in names.split(",")]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def raw(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor; numpy has no bfloat16."""
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.int16).numpy() if tensor.element_size() == 2 else tensor.numpy()


class Case:
    """One scan in the operator's form: x, delta, proj, dt_weight, dt_bias, A, skip in float64 and in its dtype."""

    def __init__(self, suffix="f32", segment_tokens=None, **shape):
        self.suffix, self.dtype = suffix, DTYPES[suffix]
        if "length" in shape:
            u, delta, A, B, C, skip, bias = sequence_inputs(**shape)
            exact = [u.mT, delta.mT, torch.cat([B, C], 1).mT, u.new_empty(1, u.shape[1], 0), bias[None], A, skip]
            self.grid = (0, 0)
        else:
            x, proj, weight, bias, A_logs, skip, *self.grid = map_inputs(**shape)
            exact = [x, None, proj, weight, bias, -A_logs.exp(), skip]
        streams = (0, 1, 2)
        self.tensors = [
            None if t is None else t.to(self.dtype if i in streams else torch.float32).contiguous()
            for i, t in enumerate(exact)
        ]
        self.exact = [None if t is None else t.double().requires_grad_() for t in self.tensors]
        self.B, self.L, self.D = exact[0].shape
        self.K, self.R, self.N = exact[3].shape[0], exact[3].shape[2], exact[5].shape[1]
        self.M, self.P = ceil_div(self.N, 16), self.R + 2 * self.N
        self.segment_tokens = segment_tokens or ceil_div(self.L, 32) * 32
        self.S = ceil_div(self.L, self.segment_tokens)
        self.dy = torch.linspace(-1, 1, exact[0].numel()).reshape(exact[0].shape).cos().to(self.dtype)

    def reference(self) -> torch.Tensor:
        x, delta, proj, weight, bias, A, skip = self.exact
        if delta is None:
            return ss2d_scan_ref(x, proj, weight, bias, torch.log(-A), skip, *self.grid)
        B, C = proj.mT.split(self.N, 1)
        return selective_scan_ref(x.mT, delta.mT, A, B, C, skip, bias[0], True).mT

    def sizes(self) -> tuple[int, ...]:
        return (self.B, self.L, self.D, self.N, self.R, self.K, *self.grid, 1, self.S, self.segment_tokens, 0)

    def inputs(self, machine: Machine) -> list[int | None]:
        names = ("x", "delta", "proj", "dt_weight", "dt_bias", "A", "skip")
        return [None if t is None else machine.put(n, raw(t)) for n, t in zip(names, self.tensors, strict=True)]

    def stream(self, machine: Machine, name: str, shape: tuple[int, ...]):
        """An output in the case's dtype: address, and a function that reads it."""
        address, view = machine.room(name, shape, np.float32 if self.suffix == "f32" else np.int16)
        return address, lambda: torch.from_numpy(view.copy()).view(self.dtype)


def add(parts: np.ndarray, suffix: str, build: str = "plain", **how: int) -> torch.Tensor:
    """scan_sum over the first axis of parts."""
    with Machine("scan_sum.cu", build) as machine:
        count = parts[0].size
        address, view = machine.room("out", parts.shape[1:], np.float32 if suffix == "f32" else np.int16)
        arguments = structure("ScanSum")(machine.put("parts", parts), address, count, count, len(parts), 0)
        machine.launch(f"scan_sum_{suffix}", arguments, ceil_div(count, 512), 128, 0, **how)
        return torch.from_numpy(view.copy()).view(DTYPES[suffix])


def forward(
    case: Case, build: str = "plain", save: bool = True, sweep: int = 0, **how: int
) -> tuple[torch.Tensor, np.ndarray | None]:
    """y and checkpoints, by scan_forward or by scan_sweep with so many states of a thread."""
    with Machine("scan_sweep.cu" if sweep else "scan_forward.cu", build) as machine:
        pointers = case.inputs(machine)
        summaries = case.B, case.K, case.S - 1
        ends = machine.room("ends", (*summaries, case.N, case.D))[0] if case.S > 1 else None
        steps = machine.room("steps", (*summaries, case.D))[0] if case.S > 1 else None
        planes = 2 if sweep else case.M * case.K
        parts, parts_view = machine.room("parts", (planes, case.B, case.L, case.D))
        states = (case.B, case.K, ceil_div(case.L, 16), case.N, case.D)
        checkpoints, view = machine.room("checkpoints", states) if save else (None, None)
        arguments = structure("ScanForward")(*pointers, ends, steps, parts, checkpoints, *case.sizes())
        if sweep:
            channels = 4 * sweep
            blocks, shared = case.B * 2 * case.D // channels, 8 * (1088 + case.R * (36 + channels))
            machine.launch(f"scan_sweep{sweep}_{case.suffix}", arguments, blocks, 128, shared, **how)
        else:
            run_segments(case, machine, arguments, **how)
        return add(parts_view, case.suffix, build, **how), None if view is None else view.copy()


def run_segments(case: Case, machine: Machine, arguments: ctypes.Structure, **how: int) -> None:
    """scan_summary where there are segments, then scan_forward."""
    tiles = ceil_div(case.D, 32)
    threads = 32 * ceil_div(ceil_div(case.D, tiles), 8)
    shared = 4 * (1088 + 4 * (ceil_div(case.R, 4) | 1) * (32 + threads // 4))
    blocks = case.B * case.K * case.M * tiles
    if case.S > 1:
        machine.launch(f"scan_summary_{case.suffix}", arguments, blocks * (case.S - 1), threads, shared, **how)
    machine.launch(f"scan_forward_{case.suffix}", arguments, blocks * case.S, threads, shared, **how)


NAMES = ("dx", "ddelta", "dproj", "ddt_weight", "ddt_bias", "dA", "dskip")


def backward(case: Case, checkpoints: np.ndarray, build: str = "plain", **how: int) -> dict[str, torch.Tensor]:
    """Gradients by name, for the output gradient case.dy."""
    with Machine("scan_backward.cu", build) as machine, Machine("scan_adjoint.cu", build) as early:
        summaries, tiles, K, D = (case.B, case.K, case.S - 1), ceil_div(case.D, 64), case.K, case.D
        ends, ends_view = early.room("ends", (*summaries, case.N, D))
        steps, steps_view = early.room("steps", (*summaries, D))
        inputs = lambda m: [m.put("dy", raw(case.dy)), *case.inputs(m), m.put("checkpoints", checkpoints)]  # noqa: E731
        if case.S > 1:
            arguments = structure("ScanBackward")(*inputs(early), ends, steps, 0, 0, 0, 0, *case.sizes())
            early_tiles = ceil_div(D, 128)
            threads = 32 * ceil_div(ceil_div(D, early_tiles), 32)
            blocks, shared = case.B * K * (case.S - 1) * case.M * early_tiles, 4 * (1056 + 164 * case.R)
            early.launch(f"scan_adjoint_{case.suffix}", arguments, blocks, threads, shared, **how)
            ends, steps = machine.put("ends", ends_view), machine.put("steps", steps_view)
        parts, parts_view = machine.room("parts", (case.M * K, case.B, case.L, D))
        ddelta, ddelta_view = machine.room("ddelta", (case.M, case.B, case.L, D))
        dproj, dproj_view = machine.room("dproj", (case.M * tiles, case.B, case.L, K * case.P))
        width = K * D * (case.N + case.R + 2)
        parameters, parameters_view = machine.room("dparameters", (case.B * case.S * case.M, width))
        given = case.tensors[1] is not None
        arguments = structure("ScanBackward")(
            *inputs(machine), ends, steps, parts, ddelta if given else None, dproj, parameters, *case.sizes()
        )
        shared, blocks = 4 * (6828 + 148 * case.R), case.B * K * case.S * case.M * tiles
        machine.launch(f"scan_backward_{case.suffix}", arguments, blocks, 64, shared, **how)
        sizes = [K * D * n for n in (case.N, case.R, 1, 1)]
        dA, dweight, dbias, dskip = add(parameters_view, "f32", build, **how).split(sizes)
        return {
            "dx": add(parts_view, case.suffix, build, **how),
            **({"ddelta": add(ddelta_view, case.suffix, build, **how)} if given else {}),
            "dproj": add(dproj_view, case.suffix, build, **how),
            "ddt_weight": dweight.reshape(K, D, case.R),
            "ddt_bias": dbias.reshape(K, D),
            "dA": dA.reshape(K * D, case.N),
            "dskip": dskip,
        }


def reference_gradients(case: Case) -> dict[str, torch.Tensor]:
    """The same in float64."""
    names = [n for n, t in zip(NAMES, case.exact, strict=True) if t is not None]
    tensors = [t for t in case.exact if t is not None]
    found = torch.autograd.grad(case.reference(), tensors, case.dy.double(), materialize_grads=True)
    return dict(zip(names, found, strict=True))
