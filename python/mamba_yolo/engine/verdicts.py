"""What a detector did to each image: found, missed and falsely reported objects, and the loss of the image alone.

At the confidence where the mean F1 is largest, from the same matches as every other figure.
Test: tests/engine/test_verdicts.py (sums equal the confusion matrix).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mamba_yolo.engine.matches import UNMATCHED
from mamba_yolo.types import RawDetections

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from mamba_yolo.engine.matches import ImageMatches, Truth
    from mamba_yolo.engine.step import Criterion
    from mamba_yolo.types import Batch


class Verdict(NamedTuple):
    """One image.

    Attributes:
        truth: its objects.
        rows: (m, 6) x1 y1 x2 y2 score class of the detections at least as sure as asked, pixels of the image.
        found: (m,) object that each found, UNMATCHED (a false alarm) or CROWD (ignored).
        missed: (k,) objects that nothing found.
        loss: of the image alone; NaN where it was not asked for.
    """

    truth: Truth
    rows: npt.NDArray[np.float32]
    found: npt.NDArray[np.int64]
    missed: npt.NDArray[np.int64]
    loss: float = float("nan")

    @property
    def false(self) -> npt.NDArray[np.int64]:
        """Rows that are false alarms."""
        return np.flatnonzero(self.found == UNMATCHED)

    def wrong_classes(self) -> set[int]:
        """Classes of missed objects and of false alarms."""
        return {*self.truth.classes[self.missed].tolist(), *self.rows[self.false, 5].astype(int).tolist()}


def judge(
    truths: Sequence[Truth],
    detections: Sequence[npt.NDArray[np.float32]],
    matches: Sequence[ImageMatches],
    confidence: float,
) -> list[Verdict]:
    """Verdicts on images, in their order."""
    verdicts = []
    for truth, rows, match in zip(truths, detections, matches, strict=True):
        sure = rows[match.rows, 4].astype(np.float64) >= confidence  # as the curves compare
        found = match.found[sure]
        missed = np.setdiff1d(np.flatnonzero(~truth.is_crowd), found)
        verdicts.append(Verdict(truth, rows[match.rows[sure]], found, missed))
    return verdicts


def image_losses(raw: RawDetections, batch: Batch, criterion: Criterion, device: torch.device) -> dict[int, float]:
    """Loss of each image of a batch as if it were alone, all parts together, by its index in the data set."""
    losses: list[Tensor] = []
    for i in range(len(batch.images)):
        mine = batch.batch_index == i
        targets = (batch.boxes_cxcywh_norm, batch.classes, torch.zeros_like(batch.batch_index), batch.masks)
        masks = [None if m is None else m[i : i + 1].float() for m in (raw.mask_coefs, raw.protos)]
        alone = RawDetections([level[i : i + 1].float() for level in raw.levels], *masks)
        losses.append(criterion(alone, *(t[mine].to(device) for t in targets if t is not None)).total)
    return dict(zip(batch.sample_index.tolist(), torch.stack(losses).tolist(), strict=True))
