"""The selective scan of mamba-yolo-t at 640 px beside the best of plain torch, at every CPU level, one and two threads.

Run: `pytest benches/test_scan.py --benchmark-only -s`. Results are held to float64 before anything is timed.
"""

from __future__ import annotations

import functools

import pytest
import torch

from mamba_yolo.ops import ss2d_scan
from mamba_yolo.ops.dispatch import cpu_level
from scan_forms import BLOCKS, Block, inputs, torch_forms
from timing import Process, medians, processes, seconds

TOLERANCE, TOLERANCE_GRADIENTS = 1e-5, 1e-4  # of ours and of the peers, relative to the largest value
# The other levels that a machine of each level has; portable is the one source without intrinsics.
LEVELS = {"avx512": ("avx2", "portable", "scalar"), "avx2": ("scalar",)}
LARGEST_DEFINED = 40  # side of the largest map the definition computes in seconds; above, the float64 kernel does


def difference(actual, expected):
    return ((actual.double() - expected).abs().max() / expected.abs().max()).item()


def exact(block, gradient=None):
    """Output, or with the gradient of y the gradients, in float64."""
    args = [t.detach().double() if isinstance(t, torch.Tensor) else t for t in inputs(block)]
    backend = "reference" if block.side <= LARGEST_DEFINED else "rust"
    if gradient is None:
        return ss2d_scan(*args, backend=backend)
    args = [t.requires_grad_() if isinstance(t, torch.Tensor) else t for t in args]
    return torch.autograd.grad(ss2d_scan(*args, backend=backend), args[:-2], gradient.double())


def forward_timers(block):
    """Ours and the forms of torch, checked."""
    args, expected = inputs(block), exact(block)
    calls = {"ours": ss2d_scan, **torch_forms()}
    for name, call in calls.items():
        assert difference(call(*args), expected) < TOLERANCE, name
    return {name: functools.partial(seconds, functools.partial(call, *args)) for name, call in calls.items()}


def ten_blocks(found, *names):
    """Milliseconds of the network's scans, each map by the quickest of `names`."""
    return sum(BLOCKS[level].count * min(times[name] for name in names) for level, times in found.items()) * 1e3


def add_rows(figure, what, found, ours="ours"):
    """One row per map and one for the network, against the forms of torch."""
    forms = torch_forms()
    for level, times in found.items():
        rivals = {form: times[form] * 1e3 for form in forms}
        figure(f"{what} {level}", times[ours] * 1e3, rivals, work=BLOCKS[level].updates)
    total = sum(BLOCKS[level].updates * BLOCKS[level].count for level in found)
    rivals = {"best form of each map": ten_blocks(found, *forms)}
    figure(f"{what}, ten blocks", ten_blocks(found, ours), rivals, work=total)


def test_forward(benchmark, figure):
    levels = LEVELS.get(cpu_level(), ())
    with processes(*(Process("scan", MAMBA_YOLO_CPU=level) for level in levels)) as forced, torch.inference_mode():
        found = {}
        for name, block in BLOCKS.items():
            others = {level: functools.partial(p.ask, name) for level, p in zip(levels, forced, strict=True)}
            found[name] = medians(forward_timers(block) | others)
    add_rows(figure, "scan forward", found)
    for level in levels:
        add_rows(figure, f"scan forward, {level} forced", found, level)
        figure(f"scan forward, ten blocks: {cpu_level()} beside {level}", ten_blocks(found, "ours"),
               {level: ten_blocks(found, level)})  # fmt: skip
    args = inputs(BLOCKS["P3"])
    benchmark.pedantic(lambda: ss2d_scan(*args), rounds=5)


def backward_of(call, block, gradient):
    """The backward alone, of a graph that is kept."""
    args = inputs(block, requires_grad=True)
    y = call(*args)
    return lambda: torch.autograd.grad(y, args[:-2], gradient, retain_graph=True)


def test_backward(benchmark, figure):
    found = {}
    for name, block in BLOCKS.items():
        gradient = torch.randn(1, block.side**2, block.channels, generator=torch.Generator().manual_seed(1))
        expected = exact(block, gradient)
        timers = {}
        for form, call in ({"ours": ss2d_scan} | torch_forms()).items():
            backward = backward_of(call, block, gradient)
            assert all(difference(a, e) < TOLERANCE_GRADIENTS for a, e in zip(backward(), expected, strict=True)), form
            timers[form] = functools.partial(seconds, backward)
        found[name] = medians(timers, rounds=3)
        del timers, backward  # graphs of several GB
    add_rows(figure, "scan backward", found)
    gradient = torch.ones(1, 6400, 128)
    benchmark.pedantic(backward_of(ss2d_scan, BLOCKS["P3"], gradient), rounds=5)


def test_definition(beside):
    args = inputs(BLOCKS["P5"])
    with torch.inference_mode():
        beside(
            "scan forward P5, beside the definition",
            lambda: ss2d_scan(*args),
            {"one token at a time": lambda: ss2d_scan(*args, backend="reference")},
        )


def run_with(threads, args):
    torch.set_num_threads(threads)
    return seconds(lambda: ss2d_scan(*args))


@pytest.mark.parametrize("level", BLOCKS)
def test_threads(benchmark, figure, level):
    most = torch.get_num_threads()
    if most == 1:
        pytest.skip("one thread")
    args = inputs(BLOCKS[level])
    try:
        found = medians({n: functools.partial(run_with, n, args) for n in (most, 1)}, rounds=7)
        figure(f"scan forward {level}, {most} threads over one", found[most] * 1e3, {"one thread": found[1] * 1e3})
        benchmark.pedantic(run_with, (most, args), rounds=5)
    finally:
        torch.set_num_threads(most)


def test_length(benchmark, figure):
    """Equal L * D: what a long sequence of few channels costs beside a short one of many."""
    blocks = {side: Block(side, 64 * 160**2 // side**2, 4) for side in (20, 40, 80, 160)}
    args = {side: inputs(block) for side, block in blocks.items()}
    calls = {side: functools.partial(ss2d_scan, *args[side]) for side in blocks}
    found = medians({side: functools.partial(seconds, call) for side, call in calls.items()}, rounds=7)
    for side, block in blocks.items():
        figure(f"scan forward, {side**2} tokens x {block.channels}", found[side] * 1e3, work=block.updates)
    slowest, quickest = max(found.values()), min(found.values())
    figure("scan forward, dearest length over cheapest", slowest * 1e3, {"cheapest": quickest * 1e3})
    benchmark.pedantic(calls[160], rounds=5)


def test_sparse_gradients(benchmark, figure):
    """What a detector sends back: few tokens have a gradient, and it decays below the normal range between them."""
    dense, sparse = torch.ones(1, 6400, 128), torch.zeros(1, 6400, 128)
    sparse[:, ::400] = 1
    backwards = {name: backward_of(ss2d_scan, BLOCKS["P3"], g) for name, g in (("dense", dense), ("sparse", sparse))}
    expected = exact(BLOCKS["P3"], sparse)
    assert all(difference(a, e) < TOLERANCE_GRADIENTS for a, e in zip(backwards["sparse"](), expected, strict=True))
    found = medians({name: functools.partial(seconds, call) for name, call in backwards.items()}, rounds=7)
    figure("scan backward P3, gradient at every 400th token", found["sparse"] * 1e3, {"at all": found["dense"] * 1e3})
    benchmark.pedantic(backwards["sparse"], rounds=5)
