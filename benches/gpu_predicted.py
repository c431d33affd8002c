"""What the CUDA scan is expected to take on an H200, where no GPU is at hand: counted, not timed.

    python benches/gpu_predicted.py        # prints the table of docs/performance.md, "CUDA scan, predicted"

t at 640 px. A scan takes the instructions and exponentials counted in its cubin, on the busiest of 528 parts of
processors, and waits for nothing; whatever else a GPU does takes its bytes, through memory that nothing comes from a
cache of, or its products. Origin of the constants: docs/adr/008. Test: tests/test_gpu_predicted.py.

Legend: B batch, L tokens, D channels, R rank of dt, K = 4 directions, N = 16 states, P = R + 2N.
"""

from __future__ import annotations

from itertools import starmap
from typing import NamedTuple
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import gpu_peers
from gpu_acceptance import BLOCKS
from gpu_checks import K, N
from mamba_yolo.ops import dispatch
from mamba_yolo.ops.scan_plan import ceil_div, plan_forward, segment_tokens

PROCESSORS, PARTS, WARP = 132, 528, 32
CLOCK_MHZ = 1980
BYTES_PER_US = 4.3e6  # of memory, as copies reach
TENSOR_FLOPS_PER_US = 989e6  # in half precision, dense
EXPONENTIAL_SLOTS = 8.5  # per state update, softplus included
# Issue slots per state update with all that a chunk takes, float32: of ours by tests/kernels/test_gate.py, of mamba-ssm
# 2.3.2's forward loop by CUDA 13.0, of the Triton scan of gpu_peers_triton.py by tests/test_gpu_predicted.py.
BACKWARD_SLOTS, ADJOINT_SLOTS, MAMBA_SLOTS, TRITON_SLOTS = 25.7, 7.1, 16.6, 73.0
SCANS = [shape[:3] for shape in BLOCKS.values() for _ in range(shape[3])]  # side, D, R of each
# Tensors that a kernel reads a second time, by their place among the operator's arguments.
READ_AGAIN = {
    "convolution_backward": (0,),
    "native_batch_norm": (0,),
    "native_batch_norm_backward": (0, 1),
    "native_layer_norm_backward": (0, 1),
}


class Step(NamedTuple):
    """A training step: microseconds of the scan and of the rest."""

    scan: float
    rest: float

    @property
    def share(self):
        """Per cent of the step that is the scan."""
        return 100 * self.scan / (self.scan + self.rest)


class Kernels(TorchDispatchMode):
    """(bytes, operations on tensor cores) of every operator that would run a kernel on a GPU, the scan's left out."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        name = operator.name().partition("::")[2].partition(".")[0]
        read, written = tensors_of((args, kwargs)), tensors_of(out)
        owned = {t.untyped_storage()._cdata for t in read}
        moves = operator._schema.is_mutable or any(t.untyped_storage()._cdata not in owned for t in written)
        if moves and "empty" not in name and not operator.namespace.startswith(("prim", "mamba_yolo")):
            again = [args[i] for i in READ_AGAIN.get(name, ())]
            products = flop_registry.get(operator.overloadpacket, lambda *_, **__: 0)
            depthwise = "convolution" in name and args[-2 if name == "convolution_backward" else -1] > 1
            flops = 0 if depthwise else products(*args, **(kwargs or {}), out_val=out)
            self.seen.append((sum(map(bytes_of, [*read, *written, *again])), flops))
        return out


def tensors_of(tree):
    """The tensors of nested arguments, each once."""
    return list({id(t): t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)}.values())


def bytes_of(tensor):
    """Of what a kernel reads or writes: repeated elements once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * torch.Size(size for size, stride in sizes if stride).numel()


def elements(per_token):
    """The sum over the ten scans of L * per_token(D, R), per image."""
    return sum(side * side * per_token(channels, rank) for side, channels, rank in SCANS)


def slots_us(slots):
    """Of one part."""
    return slots / CLOCK_MHZ


def forward_us(batch, itemsize):
    """Of the ten scans, per image, with the sum of their parts; without the gaps between launches."""
    plans = [plan_forward(batch, side**2, channels, N, rank, K, True, PROCESSORS) for side, channels, rank in SCANS]
    shapes = zip(plans, SCANS, strict=True)
    merged = sum(side**2 * channels * (4 * plan.parts + itemsize) for plan, (side, channels, _) in shapes)
    return slots_us(sum(plan.slots for plan in plans)) / batch + merged / BYTES_PER_US


def backward_us(batch, itemsize):
    """Of the ten scans, per image: adjoints of segments, scan, sums of the gradients' parts."""

    def scan_slots(side, channels, _):
        length, tiles = side * side, ceil_div(channels, 64)
        warps = batch * K * tiles * 2
        each = segment_tokens(length, warps, PROCESSORS)
        segments = ceil_div(length, each)
        early = batch * K * (segments - 1) * ceil_div(channels, WARP)
        exponentials = ceil_div(early, PARTS) * max(ADJOINT_SLOTS, EXPONENTIAL_SLOTS)
        return N * min(each, length) * (ceil_div(warps * segments, PARTS) * BACKWARD_SLOTS + exponentials)

    summed = elements(lambda d, r: d * (4 * K + itemsize) + K * (r + 2 * N) * (4 * ceil_div(d, 64) + itemsize))
    return slots_us(sum(starmap(scan_slots, SCANS))) / batch + summed / BYTES_PER_US


def official_us(slots, itemsize, copies=True):
    """Of the pipeline of the released network, per image: its scan by issue slots or bytes, the rest by bytes.

    copies: as gpu_peers.official_style has torch do it; without, the fewest bytes that four orders in memory take.
    """
    if copies:
        moved = sum(starmap(lambda *shape: official_bytes(*shape, itemsize), SCANS))
    else:  # copy to four orders, two projections, merge
        moved = itemsize * elements(lambda d, r: 5 * d + K * (d + r + 2 * N) + K * (r + d) + 5 * d)
    scan_bytes = itemsize * elements(lambda d, _: K * (3 * d + 2 * N))
    updates = elements(lambda d, _: K * N * d)
    scan = max(slots_us(updates * slots / WARP / PARTS), scan_bytes / BYTES_PER_US)
    return scan + moved / BYTES_PER_US


def official_bytes(side, channels, rank, itemsize):
    """What torch moves for one image around the scan of gpu_peers.official_style."""
    dtype = torch.float32 if itemsize == 4 else torch.float16
    with torch.device("meta"), Kernels() as kernels:
        x, weight = torch.empty(1, side**2, channels, dtype=dtype), torch.empty(K, rank + 2 * N, channels, dtype=dtype)
        parameters = torch.empty(K, channels, rank), torch.empty(K, channels), torch.empty(K * channels, N)
        skip = torch.empty(K * channels)
        gpu_peers.official_style(x, weight, *parameters, skip, side, side, lambda u, *_: torch.empty_like(u))
    return sum(moved for moved, *_ in kernels.seen)


def ours_us(batch, itemsize):
    """Forward with the projection of x, per image."""
    return forward_us(batch, itemsize) + itemsize * elements(lambda d, r: d + K * (r + 2 * N)) / BYTES_PER_US


def step_kernels(batch, side):
    """What forward and backward of t launch beside the scan, in bfloat16 by autocast, channels last."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mamba_yolo import build_detector

    norm = functional.layer_norm  # autocast on a GPU has it in float32, autocast on a CPU as it comes
    wide = mock.patch.object(functional, "layer_norm", lambda x, *rest: norm(x.float(), *rest))
    on_gpu = mock.patch.object(dispatch, "_for_device", lambda _, why: "cuda" if why else "reference")
    with wide, on_gpu, FakeTensorMode():
        model = build_detector("t")
        images = torch.empty(batch, 3, side, side).to(memory_format=torch.channels_last)
        with Kernels() as kernels:
            with torch.autocast("cpu", torch.bfloat16):
                loss = sum(level.float().square().mean() for level in model(images).levels)
            loss.backward()
    return kernels.seen


def step_of(kernels, batch, memory, tensor):
    """The step where kernels reach these shares of the bandwidth of memory and of the operations of tensor cores."""
    byte, flop = memory * BYTES_PER_US, tensor * TENSOR_FLOPS_PER_US
    rest = sum(max(moved / byte, flops / flop) for moved, flops in kernels)
    return Step(batch * (forward_us(batch, 2) + backward_us(batch, 2)), rest)


def main():
    """Print what is predicted."""
    for batch, itemsize in ((64, 2), (64, 4), (16, 2), (16, 4), (1, 2), (1, 4)):
        print(f"forward, batch {batch}, {8 * itemsize} bits: {forward_us(batch, itemsize):.0f} us")
    for itemsize in (2, 4):
        print(f"backward, batch 16, {8 * itemsize} bits: {backward_us(16, itemsize):.0f} us")
        for name, slots in (("mamba's kernel", MAMBA_SLOTS), ("the Triton scan", TRITON_SLOTS)):
            for copies in (False, True):
                official, ours = official_us(slots, itemsize, copies), ours_us(16, itemsize)
                way = "copied by torch" if copies else "fewest bytes"
                print(
                    f"official style, {name}, {way}, {8 * itemsize} bits: {official:.0f} us, ours {ours:.0f} us, "
                    f"{official / ours:.1f}x"
                )
    kernels = step_kernels(16, 640)
    moved, flops = map(sum, zip(*kernels, strict=True))
    print(f"step, batch 16, beside the scan: {moved / 1e9:.1f} GB, {flops / 1e12:.2f} Tflop")
    for memory, tensor in ((0.9, 0.6), (0.7, 0.3), (0.5, 0.2)):
        step = step_of(kernels, 16, memory, tensor)
        print(
            f"step, batch 16, memory {memory}, tensor cores {tensor}: scan {step.scan / 1e3:.1f} ms, rest "
            f"{step.rest / 1e3:.1f} ms, {step.share:.0f} %"
        )


if __name__ == "__main__":
    main()
