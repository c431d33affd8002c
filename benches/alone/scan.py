"""Times the forward scan of a map of `scan_forms.BLOCKS`; the level is forced from outside, once per process."""

import torch

from mamba_yolo.ops import ss2d_scan
from scan_forms import BLOCKS, inputs
from timing import seconds, serve

ARGUMENTS = {name: inputs(block) for name, block in BLOCKS.items()}


def answer(name):
    """Seconds of one call, after it was seen to agree with float64 on the first."""
    args = ARGUMENTS[name]
    return seconds(lambda: ss2d_scan(*args))


for args in ARGUMENTS.values():
    expected = ss2d_scan(*(t.double() if isinstance(t, torch.Tensor) else t for t in args))
    assert (ss2d_scan(*args) - expected).abs().max() < 1e-5 * expected.abs().max()
with torch.inference_mode():
    serve(answer)
