"""The structs that the CUDA kernels take, field by field as in cuda/arguments.cuh, where shapes and meanings stand.

Pointers are addresses, 0 for none. Test: tests/kernels/test_launch.py compares names, order and sizes with that file.
"""

from __future__ import annotations

from struct import Struct


class Layout(Struct):
    """One struct: pointers, then 64-bit, then 32-bit numbers, the last of these a float in NormGate."""

    def __init__(self, pointers: str, longs: str, ints: str, floats: str = "") -> None:
        groups = [names.split() for names in (pointers, longs, ints, floats)]
        super().__init__("<" + "".join(f"{len(names)}{code}" for names, code in zip(groups, "Qqif", strict=True)))
        self.fields = [name for names in groups for name in names]


_SIZES = "batch length channels states rank directions height width softplus segments segment_tokens pad_"
_SCANNED = "x delta proj dt_weight dt_bias A skip"

SCAN_FORWARD = Layout(f"{_SCANNED} ends steps parts checkpoints", "", _SIZES)
SCAN_BACKWARD = Layout(f"dy {_SCANNED} checkpoints ends steps parts ddelta dproj dparameters", "", _SIZES)
SCAN_SUM = Layout("parts out", "count stride", "summands pad_")
NORM_GATE = Layout("parts weight bias gate out", "tokens gate_stride", "channels planes pad_", "eps")
