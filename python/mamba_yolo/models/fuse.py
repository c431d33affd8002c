"""Batch norms folded into the convolutions before them: the same network for inference with fewer passes over its maps.

norm(w * x + b) = (s w) * x + s (b - mean) + shift, with s = scale / sqrt(variance + eps) per output channel.
Test: tests/models/test_fuse.py.
"""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mamba_yolo.models.blocks import LSBlock
from mamba_yolo.models.layers import ConvNormAct

if TYPE_CHECKING:
    from mamba_yolo.models.detector import Detector

    Versions = tuple[tuple[int, int], ...]

_copies: weakref.WeakKeyDictionary[Detector, tuple[Versions, Detector]] = weakref.WeakKeyDictionary()


def fuse(detector: Detector) -> Detector:
    """Copy of a detector for inference: batch norms folded, eval mode, gradients off; outputs equal to rounding.

    The detector given is not changed. What is folded cannot be trained: train the original and fuse again.
    """
    fused = copy.deepcopy(detector).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, LSBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.depthwise = fuse_conv_bn_eval(module.depthwise, module.norm)
            module.norm = nn.Identity()
    return fused


def fuse_once(detector: Detector) -> Detector:
    """The same as `fuse`, kept beside the detector and made anew when its weights have changed or moved.

    Changes are seen by torch's version counters, so an edit through `.data` goes unnoticed.
    """
    tensors = (*detector.parameters(), *detector.buffers())
    versions = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
    kept = _copies.get(detector)
    if kept is None or kept[0] != versions:
        kept = _copies[detector] = versions, fuse(detector)
    return kept[1]
