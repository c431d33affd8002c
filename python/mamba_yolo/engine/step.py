"""One training step: uint8 batch to device, autocast forward, loss, backward; every few batches clip, step, average.

The loss is a sum over the images of the batch, so gradients of accumulated batches simply add up to those of one large
batch. With several ranks each has a share of the batch: losses are divided by the target scores of all shares,
gradients are summed. A loss or gradient that is not finite stops the run before any weight changes.
Test: tests/engine/test_step.py, tests/engine/test_ranks.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mamba_yolo.engine.optim import set_rates
from mamba_yolo.engine.ranks import ALONE, Ranks
from mamba_yolo.engine.syncnorm import blank_forward
from mamba_yolo.engine.tally import Tally
from mamba_yolo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mamba_yolo.engine.ema import Ema
    from mamba_yolo.engine.norms import NormMomentum
    from mamba_yolo.engine.schedule import Rates
    from mamba_yolo.losses.detection import DetectionLossParts
    from mamba_yolo.types import Batch, RawDetections

    Criterion = Callable[[RawDetections, Tensor, Tensor, Tensor], DetectionLossParts]

MOST_FILES_NAMED = 16


class Losses(NamedTuple):
    """Loss parts of one batch as numbers."""

    box: float
    cls: float
    dfl: float


class Precision(NamedTuple):
    """Number formats of a device: the autocast type (None: float32 throughout) and the scaler float16 needs."""

    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler


def choose_precision(device: torch.device, amp: bool) -> Precision:
    """bfloat16 where the GPU has it, else float16 with a scaled loss; always float32 on a CPU."""
    kind = None
    if amp and device.type == "cuda":
        kind = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Precision(kind, torch.amp.GradScaler(device.type, enabled=kind is torch.float16))


def network_input(images: Tensor, device: torch.device) -> Tensor:
    """Turn (B, 3, H, W) uint8 into float32 in 0..1, channels last, on the device."""
    return images.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)


def batch_losses(raw: RawDetections, batch: Batch, criterion: Criterion, device: torch.device) -> DetectionLossParts:
    """Loss of the raw outputs for a batch, in float32 whatever the network computed in."""
    raw = raw._replace(levels=[level.float() for level in raw.levels])
    return criterion(raw, batch.boxes_cxcywh_norm.to(device), batch.classes.to(device), batch.batch_index.to(device))


@dataclass
class Stepper:
    """Everything that one batch changes.

    Attributes:
        step: batches seen since the start of the run.
        waiting: batches whose gradients wait for the next optimizer step.
        ranks: the processes that share every batch.
    """

    model: nn.Module
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    ema: Ema
    norms: NormMomentum
    precision: Precision
    device: torch.device
    clip: float
    step: int = 0
    waiting: int = 0
    ranks: Ranks = ALONE

    def __call__(self, batch: Batch, rates: Rates, *, last: bool, files: Callable[[], Sequence[str]]) -> Losses:
        """Train on one batch; the optimizer steps when enough batches wait, and at the last of an epoch.

        Args:
            batch: images and targets.
            rates: rates of this batch.
            last: whether the epoch ends here.
            files: image files of the batch, named if the loss is not finite.

        Raises:
            TrainingError: loss or gradient is not finite; no weight was changed.
        """
        set_rates(self.optimizer, rates)
        self.norms.next_batch()
        autocast = torch.autocast(self.device.type, self.precision.autocast, self.precision.autocast is not None)
        with autocast:
            raw = self.model(network_input(batch.images, self.device))
        parts = batch_losses(raw, batch, self.criterion, self.device)
        total, losses = self._of_all_ranks(parts, len(batch.images))
        if not torch.isfinite(total):
            raise TrainingError(self._explain("the loss is not finite", files()))
        if not all(map(math.isfinite, losses)):
            raise self.ranks.lost("the loss of another rank is not finite")
        self.precision.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.step += 1
        self.waiting += 1
        if last or self.waiting >= rates.accumulate:
            self._update(files)
        return losses

    def idle(self, rates: Rates) -> Losses:
        """Take part in the last step of an epoch without a batch: other ranks have some."""
        set_rates(self.optimizer, rates)
        self.norms.next_batch()
        nothing = blank_forward(self.model, self.device)
        whole = Tally(*self.ranks.total(torch.zeros(5, dtype=torch.float64)).tolist())
        if not all(map(math.isfinite, whole)):
            raise self.ranks.lost("the loss of another rank is not finite")
        self.precision.scaler.scale(nothing).backward()  # type: ignore[no-untyped-call]
        self.step += 1
        self._update(list)
        return Losses(*whole.parts())

    def _of_all_ranks(self, parts: DetectionLossParts, images: int) -> tuple[Tensor, Losses]:
        """This rank's share of the whole batch's loss, to be differentiated, and the parts of the whole."""
        if self.ranks.world_size == 1:
            return parts.total, Losses(float(parts.box), float(parts.cls), float(parts.dfl))
        mine = Tally.of(parts, images)
        whole = Tally(*self.ranks.total(torch.tensor(mine, dtype=torch.float64)).tolist())
        share = whole.images / mine.images * mine.divisor / whole.divisor
        return parts.total * share, Losses(*whole.parts())

    def _update(self, files: Callable[[], Sequence[str]]) -> None:
        scaler = self.precision.scaler
        self.ranks.add_gradients(self.model)
        scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if not scaler.is_enabled() and not torch.isfinite(norm):
            raise TrainingError(self._explain("a gradient is not finite", files()))
        scaler.step(self.optimizer)  # skipped by the scaler where float16 overflowed
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.waiting = 0
        self.ranks.average_statistics(self.model)
        self.ema.update(self.model)

    def _explain(self, what: str, files: Sequence[str]) -> str:
        named = ", ".join(files[:MOST_FILES_NAMED])
        more = f" and {len(files) - MOST_FILES_NAMED} more" if len(files) > MOST_FILES_NAMED else ""
        lr = self.optimizer.param_groups[0]["lr"]
        return (
            f"step {self.step + 1}: {what} (lr {lr:g}); images of the batch: {named}{more}. The last saved checkpoint "
            "is untouched: lower --lr0, and look at the labels with `mamba-yolo check`"
        )
