"""Bank conflicts and sectors of the scans, on the checked twin: what a GPU would spend on the requests of its warps."""

import pytest

from kernels.cases import Case, backward, forward
from kernels.twin import machine
from kernels.twin.machine import Machine

SHAPE = {"height": 4, "width": 16, "channels": 128, "rank": 3, "batch": 1}
# Wavefronts of shared memory and sectors of global memory, over the fewest that the bytes asked for can take.
# More than 1 because of dt, A and weights, whose neighbours lie a row apart; B, C, and products are read at 1.
BUDGETS = {
    "scan_sweep32": (1.01, 1.6),
    "scan_sweep16": (1.01, 1.6),
    "scan_sweep8": (1.01, 1.6),
    "scan_sweep4": (1.01, 1.6),
    "scan_summary": (1.04, 1.7),
    "scan_forward": (1.04, 1.5),
    "scan_adjoint": (1.01, 2.7),
    "scan_backward": (1.06, 3.0),
}


@pytest.fixture
def spent(monkeypatch):
    """Per kernel launched on the checked twin: (cost, fewest) of shared and of global memory."""
    totals = {}
    launch = Machine.launch

    def recording(self, kernel, *arguments, **how):
        launch(self, kernel, *arguments, **how)
        if self.build == "check":
            lines = [line for _, line in self.traffic()]
            totals[kernel.rpartition("_")[0]] = [
                (
                    sum(line.cost for line in lines if line.shared == s),
                    sum(line.fewest for line in lines if line.shared == s),
                )
                for s in (1, 0)
            ]

    monkeypatch.setattr(Machine, "launch", recording)
    return totals


def test_requests_cost_little_more_than_they_must(spent):
    for states in (32, 16, 8, 4):
        forward(Case(**SHAPE), "check", sweep=states)
    case = Case(segment_tokens=32, **SHAPE)
    backward(case, forward(case, "check")[1], "check")
    ratios = {kernel: tuple(cost / fewest for cost, fewest in spent[kernel]) for kernel in BUDGETS}
    for kernel, budget in BUDGETS.items():
        assert all(ratio <= most for ratio, most in zip(ratios[kernel], budget, strict=True)), ratios


def test_a_planted_conflict_is_seen(spent, tmp_path, monkeypatch):
    case = Case(**SHAPE)
    checkpoints = forward(case)[1]
    for path in machine.KERNELS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "scan_backward.cu").read_text("utf-8")
    assert "(i + threadIdx.x % 8)" in text
    (tmp_path / "scan_backward.cu").write_text(text.replace("(i + threadIdx.x % 8)", "i"), "utf-8")
    monkeypatch.setattr(machine, "KERNELS", tmp_path)
    backward(case, checkpoints, "check")
    cost, fewest = spent["scan_backward"][0]
    assert cost / fewest > 1.5
