"""Parts of the network that are not trained: neither their weights move nor their batch-norm statistics.

Test: tests/engine/test_freeze.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from mamba_yolo.models.detector import Detector


def parts(detector: Detector) -> list[nn.Module]:
    """The ten parts before the head, in the order a picture passes them."""
    backbone = detector.backbone
    stages, downsamples = list(backbone.stages), list(backbone.downsamples)
    between = [part for pair in zip(downsamples, stages[1:], strict=True) for part in pair]
    return [backbone.stem, stages[0], *between, backbone.pooling, detector.neck]


def freeze(detector: Detector, count: int) -> None:
    """Exclude the first `count` parts from training."""
    if count:
        for part in parts(detector)[:count]:
            part.requires_grad_(False)


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters and none of them is trained."""
    own = list(module.parameters())
    return bool(own) and not any(p.requires_grad for p in own)


def train_unfrozen(model: nn.Module) -> None:
    """`model.train()`, but what is frozen stays in eval mode, its dropout and statistics at rest."""
    model.train()
    for module in model.modules():
        if is_frozen(module):
            module.eval()
