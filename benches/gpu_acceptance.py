"""Acceptance of the CUDA scan on one GPU, 8 minutes at most: correct, repeatable, and how fast beside its peers.

    python benches/gpu_acceptance.py [FOLDER]        # writes gpu_acceptance.json and gpu_acceptance.md there

Needs an installed mamba-yolo with its CUDA kernels, torch and cuda-bindings; nothing else. A failed check ends with
exit code 1. Times are medians of CUDA-graph replays, per image where the table says so. Peers: the pipeline of the
released network (copies in four orders, einsums, scan, merge) on a Triton scan with mamba's way of working, written for
this comparison; chunked cumulative sums under torch.compile. Test of what needs no GPU: tests/test_gpu_acceptance.py.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from pathlib import Path

import torch

import gpu_peers
from gpu_checks import CHECKS, K, N, captured, map_inputs, require_close, run_checks
from mamba_yolo.ops import ss2d_scan, warmup

# Side, channels, rank and number of the scans of mamba-yolo-t at 640 px.
BLOCKS = {"P2": (160, 64, 2, 1), "P3": (80, 128, 4, 2), "P4": (40, 256, 8, 5), "P5": (20, 512, 16, 2)}
REPLAYS, ROUNDS = 20, 9


def graph_us(call):
    """Microseconds of a call on the GPU: the median of rounds of graph replays."""
    replay, _ = captured(call)
    taken = []
    for _ in range(ROUNDS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(REPLAYS):
            replay()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) * 1e3 / REPLAYS)
    return statistics.median(taken)


def sum_of_blocks(time_block, names=tuple(BLOCKS)):
    """The sum over scans of t of what a function of (side, channels, rank) returns."""
    return sum(BLOCKS[name][3] * time_block(*BLOCKS[name][:3]) for name in names)


def forward_us(batch, dtype, peer=None, names=tuple(BLOCKS)):
    """The scans of t by `ss2d_scan`, or by a function of gpu_peers, which projects x itself."""

    def time_block(side, channels, rank):
        x, proj, *rest = map_inputs((batch, side, side, channels, rank, N), "cuda", dtype)
        with torch.no_grad():
            if peer is None:
                return graph_us(lambda: ss2d_scan(x, proj, *rest))
            weight = torch.randn(K, rank + 2 * N, channels, device="cuda", dtype=dtype) * channels**-0.5
            require_close([peer(x, weight, *rest).cpu()], [gpu_peers.ours(x, weight, *rest).cpu()], 2e-2)
            return graph_us(lambda: peer(x, weight, *rest))

    return sum_of_blocks(time_block, names)


def backward_us(batch, dtype):
    """The backward of all ten blocks: forward and backward together, less the forward that keeps checkpoints."""

    def time_block(side, channels, rank):
        inputs = map_inputs((batch, side, side, channels, rank, N), "cuda", dtype)
        leaves = [t.requires_grad_() for t in inputs[:6]]
        dy = torch.randn_like(inputs[0])
        both = graph_us(lambda: torch.autograd.grad(ss2d_scan(*inputs), leaves, dy)[0])
        return both - graph_us(lambda: ss2d_scan(*inputs).detach())

    return sum_of_blocks(time_block)


def share_of_training_step(batch=16, side=640):
    """Per cent of a training step's GPU time that the scan's kernels take: t, bfloat16."""
    from mamba_yolo import build_detector

    model = build_detector("t").cuda().to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, side, side, device="cuda").to(memory_format=torch.channels_last)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = sum(level.float().square().mean() for level in model(images).levels)
        loss.backward()

    for _ in range(3):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    times = {event.key: event.device_time_total for event in profiler.key_averages()}
    return 100 * sum(t for name, t in times.items() if name.startswith("scan_")) / max(sum(times.values()), 1)


def timings():
    """Rows of the table: what, figure, unit, what was to be reached and aimed at, whether more is better."""
    half = torch.float16
    ours, official = forward_us(16, half, gpu_peers.ours), forward_us(16, half, gpu_peers.official_style)
    small = ("P4", "P5")  # the compiler takes minutes over the hundreds of chunks of the others
    compiled = forward_us(1, torch.float32, torch.compile(gpu_peers.chunked), small)
    alone = forward_us(1, torch.float32, gpu_peers.ours, small)
    return [
        ("forward, ten blocks, batch 16, float16, per image", forward_us(16, half) / 16, "us", 130, 110, False),
        (
            "forward, ten blocks, batch 16, float32, per image",
            forward_us(16, torch.float32) / 16,
            "us",
            130,
            110,
            False,
        ),
        ("official-style pipeline / ours, batch 16, float16, projection included", official / ours, "x", 4, 6, True),
        ("backward, ten blocks, batch 16, float16, per image", backward_us(16, half) / 16, "us", 400, 300, False),
        ("forward, ten blocks, batch 1, float16, CUDA graph", forward_us(1, half), "us", 350, 200, False),
        (
            "chunked sums, torch.compile / ours, P4 and P5, batch 1, float32",
            compiled / alone,
            "x",
            None,
            None,
            True,
        ),
        ("scan in a training step of t, 640 px, batch 16, bfloat16", share_of_training_step(), "%", 25, None, False),
    ]


def verdict(figure, reach, aim, more):
    """How a figure stands: aim met, reached, missed, or nothing where none was set."""
    met = lambda bound: bound is not None and (figure >= bound if more else figure <= bound)  # noqa: E731
    if reach is None:
        return ""
    return "aim met" if met(aim) else "reached" if met(reach) else "MISSED"


def markdown(machine, checks, rows):
    """The report for docs/performance.md."""
    lines = [f"Machine: {machine}.", "", "| check | result |", "|---|---|"]
    lines += [f"| {row['check']} | {'ok' if row['ok'] else 'FAILED'}: {row['said']} |" for row in checks]
    lines += ["", "| bench | figure | reach | aim | |", "|---|---|---|---|---|"]
    for what, figure, unit, reach, aim, more in rows:
        bounds = " | ".join("" if bound is None else f"{bound} {unit}" for bound in (reach, aim))
        lines.append(f"| {what} | {figure:.4g} {unit} | {bounds} | {verdict(figure, reach, aim, more)} |")
    return "\n".join(lines) + "\n"


def main(folder):
    warmup()
    name = torch.cuda.get_device_name()
    machine = f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    checks = run_checks(CHECKS, "cuda")
    healthy = all(row["ok"] for row in checks)
    rows = timings() if healthy else []
    report = {"machine": machine, "checks": checks, "timings": rows}
    (folder / "gpu_acceptance.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "gpu_acceptance.md").write_text(markdown(machine, checks, rows), encoding="utf-8")
    print(markdown(machine, checks, rows))
    return 0 if healthy else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
