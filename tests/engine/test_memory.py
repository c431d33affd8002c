"""What a step frees is there for the next one."""

import subprocess
import sys

import pytest

BLOCKS = """
import resource, torch
from mamba_yolo.engine.memory import keep_freed_memory
if {keep}:
    print("kept" if keep_freed_memory() and keep_freed_memory() else "other malloc")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(keep):
    run = subprocess.run([sys.executable, "-c", BLOCKS.format(keep=keep)], capture_output=True, text=True, check=True)
    *said, count = run.stdout.split()
    if said == ["other", "malloc"]:
        pytest.skip("needs glibc")
    return int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's page faults")
def test_freed_blocks_are_not_fetched_again():
    assert page_faults(keep=False) > 10_000  # 10 x 40 MB in pages of 4 KiB is 97,656
    assert page_faults(keep=True) < 1_000
