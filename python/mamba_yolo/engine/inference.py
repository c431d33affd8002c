"""The network as predict and val run it: folded, freed memory kept, in float32 or bfloat16.

bfloat16 is for convolutions, projections and the maps between them; the scan's state and the raw detections are
float32. Test: tests/engine/test_inference.py.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import torch

from mamba_yolo.engine.memory import keep_freed_memory
from mamba_yolo.errors import BackendError
from mamba_yolo.models.fuse import fuse_once
from mamba_yolo.types import RawDetections

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.config import Dtype
    from mamba_yolo.models.detector import Detector


class Network:
    """A detector ready for inference, on the device where it is.

    Args:
        detector: not changed; its folded copy is kept for the next call.
        dtype: what to compute in.

    Attributes:
        device: where images have to be.
        num_classes: nc.

    Raises:
        BackendError: bfloat16 on a device without instructions for it, where it would only be slower.
    """

    def __init__(self, detector: Detector, dtype: Dtype) -> None:
        self.device = next(detector.parameters()).device
        self.num_classes = detector.config.num_classes
        if dtype == "bfloat16" and not has_bfloat16(self.device):
            raise BackendError(
                f"dtype bfloat16 needs instructions that this {self.device.type} lacks; use dtype=float32, faster here"
            )
        keep_freed_memory()
        self._fused = fuse_once(detector)
        self._mixed = dtype == "bfloat16"

    def __call__(self, images: Tensor) -> RawDetections:
        """(B, 3, H, W) float32 in 0..1 to raw detections in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            raw = self._fused(images)
        optional = (None if t is None else t.float() for t in (raw.mask_coefs, raw.protos))
        return RawDetections([level.float() for level in raw.levels], *optional)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware: avx512_bf16 or AMX, Arm's bf16, GPUs since 2020."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("x86_64", "AMD64"):  # where the other question counts emulation
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
