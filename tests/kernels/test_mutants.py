"""The script of mutants sees a mistake, and none where there is none."""

from kernels import mutants
from kernels.twin import machine


def test_a_mistake_is_told_and_the_kernel_itself_is_not(tmp_path, monkeypatch):
    text = (machine.KERNELS / "norm_gate.cu").read_text("utf-8")
    found = list(mutants.mutants_of(text))
    assert all(mutant != text for *_, mutant in found)
    assert {"< to <=", "% to /", "i64 to int"} <= {what for what, *_ in found}
    cases = {"right": text, "plain": next(mutant for what, _, mutant in found if what == "% to /")}
    monkeypatch.setattr(machine, "KERNELS", machine.KERNELS)  # which the judge changes
    for name, source in cases.items():
        (tmp_path / name).mkdir()
        assert mutants.judge("norm_gate.cu", source, tmp_path / name) == ("" if name == "right" else name)
