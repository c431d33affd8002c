"""Mutants of the CUDA kernels: one small mistake each, and whether their twin tells; which it does not, is printed.

    python -m kernels.mutants [FILE ...]      # from the folder `tests`; files of cuda/, all that scan by default

A mutant goes through small shapes on the plain twin, the last blocks of giants, then small shapes on the twin built by
ubsan and on the checked one. What is left is no mistake, or a hole in the tests: look at each.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from kernels import test_checked
from kernels.cases import Case, backward, forward, reference_gradients
from kernels.test_norm_gate import norm_gate
from kernels.twin import machine
from ops.scan_cases import relative_error

EDITS = {
    "no barrier": (r"__syncthreads\(\);", ";"),
    "< to <=": (r" < ", " <= "),
    ">= to >": (r" >= ", " > "),
    "1 to 2": (r"(?<=[-+] )1\b(?!\.)", "2"),
    "half a mask": (r"~0u", "0xffffu"),
    "% to /": (r" % ", " / "),
    "index dropped": (r" \+ (part|own)\.\w+", ""),
    "thread dropped": (r" \+ (threadIdx\.x|thread|lane)\b(?! [/*%])", ""),
    "i64 to int": (r"\(i64\)", "(int)"),
    "no minimum": (r"min\((\w+), ", r"(\1 + 0 * "),
    "slot of the next": (r"\bhere\b(?= \^)", "TILE + here"),
}
FORWARD = [  # how sequences are cut, shape
    (None, {"height": 3, "width": 23, "channels": 9, "rank": 5, "batch": 2}),
    (32, {"height": 3, "width": 35, "channels": 33, "rank": 2, "batch": 1}),
    (None, {"length": 48, "channels": 3, "batch": 2}),
    (32, {"height": 5, "width": 9, "channels": 3, "states": 18, "batch": 1}),
]
SWEPT = [  # states of a thread, shape
    (32, {"height": 2, "width": 56, "channels": 128, "rank": 3, "batch": 1}),
    (16, {"height": 6, "width": 8, "channels": 128, "rank": 1, "batch": 2}),
    (8, {"height": 3, "width": 32, "channels": 32, "rank": 2, "batch": 1}),
    (4, {"height": 5, "width": 32, "channels": 16, "rank": 5, "batch": 2}),
]
BACKWARD = [
    *FORWARD,
    (None, {"height": 2, "width": 9, "channels": 70, "rank": 3, "batch": 1}),
    (64, {"height": 1, "width": 97, "channels": 3, "rank": 2, "batch": 1}),
]
SECONDS = 10  # of a launch, after which it hangs
WORKERS = 2
_known: dict[str, object] = {}


def known(key, make):
    """What the right kernels, or the definition, give; made before the first mutant."""
    text = repr(key)
    if text not in _known:
        _known[text] = make()
    return _known[text]


def require(got, expected, limit):
    if not relative_error(torch.as_tensor(got).double(), torch.as_tensor(expected).double()) < limit:
        raise AssertionError


def scan_right(build, order, cases, sweeps):
    for first, shape in cases:
        case = Case(segment_tokens=None if sweeps else first, **shape)
        states = known((shape, sweeps), lambda case=case: forward(case)[1])
        y, ours = forward(case, build, sweep=first if sweeps else 0, order=order, seconds=SECONDS)
        require(y, known(shape, case.reference).detach(), 1e-6)
        require(ours, states, 1e-6)


def forward_right(build, order):
    scan_right(build, order, FORWARD, False)


def sweep_right(build, order):
    scan_right(build, order, SWEPT, True)


def backward_right(build, order):
    for segment_tokens, shape in BACKWARD:
        case = Case(segment_tokens=segment_tokens, **shape)
        states = known((shape, "states"), lambda case=case: forward(case)[1])
        expected = known((shape, "gradients"), lambda case=case: reference_gradients(case))
        for name, got in backward(case, states, build, order=order, seconds=SECONDS).items():
            require(got, expected[name], 1e-5)


def norm_gate_right(build, order):
    for tokens, channels in ((1, 2), (5, 33)):
        ours, exact = norm_gate("f32", tokens, channels, build, order=order, seconds=SECONDS)
        require(ours, exact, 1e-5)


def giants_right(kernel):
    if kernel in ("scan_backward", "scan_adjoint"):
        test_checked.test_the_last_block_of_a_giant_backward(kernel)
    if kernel == "scan_backward":
        test_checked.test_the_last_block_of_a_giant_backward_with_more_states()
    if kernel == "scan_sum":
        test_checked.test_the_last_block_of_a_giant_sum()
    if kernel == "norm_gate":
        test_checked.test_the_last_block_of_a_giant_norm_gate()
    for values in test_checked.GIANTS:
        if values[0].rstrip("0123456789") == kernel:
            test_checked.test_the_last_blocks_of_a_giant(*values)


CHECKS = {
    "scan_forward": forward_right,
    "scan_sweep": sweep_right,
    "scan_backward": backward_right,
    "scan_adjoint": backward_right,
    "scan_sum": backward_right,
    "norm_gate": norm_gate_right,
}
BACK = ("scan_backward", "scan_adjoint")
OF_HEADER = {"scan.cuh": ("scan_forward", "scan_sweep", *BACK), "scan_back.cuh": BACK}
FILES = ["scan.cuh", "scan_back.cuh", *(f"{kernel}.cu" for kernel in CHECKS)]


def mutants_of(text):
    """(what, number of the line, mutated text); comments and macros stay."""
    for what, (pattern, change) in EDITS.items():
        for match in re.finditer(pattern, text):
            start = text.rfind("\n", 0, match.start()) + 1
            if "//" in text[start : match.start()] or text.startswith("#", start):
                continue
            mutant = text[: match.start()] + match.expand(change) + text[match.end() :]
            yield what, text.count("\n", 0, match.start()) + 1, mutant


def judge(file, text, folder):
    """What tells a mutant: a build of the twin, "giant", "compiler", or "" for nothing."""
    for path in machine.KERNELS.iterdir():
        source = text if path.name == file else path.read_text("utf-8")
        if path.suffix in (".cu", ".cuh"):
            source = re.sub(r"^(KERNEL|EXPORT|EXPORT_ALL)\w*\((.*_)?(b?f16).*\n", "", source, flags=re.MULTILINE)
            (folder / path.name).write_text(source, "utf-8")
    machine.KERNELS = folder
    kernels = OF_HEADER.get(file, (file.removesuffix(".cu"),))
    checks = dict.fromkeys(CHECKS[kernel] for kernel in kernels)
    steps = [("plain", check, ("plain", order)) for order in (0, 1) for check in checks]
    steps += [("giant", giants_right, (kernel,)) for kernel in kernels]
    steps += [(build, check, (build, 0)) for build in ("ubsan", "check") for check in checks]
    for name, step, arguments in steps:
        try:
            step(*arguments)
        except (machine.KernelError, AssertionError):
            return name
        except RuntimeError:  # of g++
            return "compiler"
    return ""


def run(job, folder, answer):
    file, _, _, text = job
    answer.send(judge(file, text, Path(folder)))


def verdicts(jobs):
    """(job, what told it) as they end, WORKERS at a time; a process that dies was told by the plain twin."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(reversed(jobs)), []
    while waiting or running:
        while waiting and len(running) < WORKERS:
            job, folder = waiting.pop(), tempfile.TemporaryDirectory()
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=run, args=(job, folder.name, writer), daemon=True)
            process.start()
            writer.close()
            running.append((job, folder, process, reader))
        for entry in [e for e in running if not e[2].is_alive()]:
            running.remove(entry)
            job, folder, _, reader = entry
            try:
                yield job, reader.recv()
            except EOFError:
                yield job, "plain"
            folder.cleanup()
        time.sleep(0.02)


def main(files):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # the twin keeps what it compiles; of mutants it need not
        for check in dict.fromkeys(CHECKS.values()):
            check("plain", 0)
        for file in files:
            text = (machine.KERNELS / file).read_text("utf-8")
            told, left = Counter(), []
            for (_, what, line, _), by in verdicts([(file, *mutant) for mutant in mutants_of(text)]):
                told[by] += 1
                if not by:
                    left.append(f"  {file}:{line}: {what}: {text.splitlines()[line - 1].strip()}\n")
            counts = ", ".join(f"{count} by {by}" for by, count in sorted(told.items()) if by)
            sys.stdout.write(f"{file}: {counts}, {told['']} left\n{''.join(sorted(left))}")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:] or FILES)
