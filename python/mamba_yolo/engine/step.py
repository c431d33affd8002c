"""One training step: uint8 batch to device, autocast forward, loss, backward; every few batches clip, step, average.

The loss is a sum over the images of the batch, so gradients of accumulated batches simply add up to those of one large
batch, and to that of a batch computed in pieces when memory runs out. With several ranks each has a share of the batch:
losses are divided by the target scores (masks: by the anchors that learn one) of all shares, gradients are summed. A
loss or gradient that is not finite stops the run before any weight changes.
Test: tests/engine/test_step.py, tests/engine/test_ranks.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mamba_yolo.engine.optim import set_rates
from mamba_yolo.engine.pieces import is_out_of_memory, split
from mamba_yolo.engine.ranks import ALONE, Ranks
from mamba_yolo.engine.syncnorm import blank_forward
from mamba_yolo.engine.tally import Losses, Tally
from mamba_yolo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mamba_yolo.config import AmpDtype
    from mamba_yolo.engine.ema import Ema
    from mamba_yolo.engine.norms import NormMomentum
    from mamba_yolo.engine.schedule import Rates
    from mamba_yolo.losses.detection import DetectionLossParts
    from mamba_yolo.types import Batch, RawDetections

    Criterion = Callable[
        ..., DetectionLossParts
    ]  # raw outputs, boxes, classes, image of each, masks where there are any

MOST_FILES_NAMED = 16
SMALLEST_SCALE = 2.0**-14  # of a float16 loss; gradients that overflow below are infinite themselves


class Precision(NamedTuple):
    """Number formats of a device: the autocast type (None: float32 throughout) and the scaler float16 needs."""

    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler


def choose_precision(device: torch.device, amp: bool, amp_dtype: AmpDtype = "auto") -> Precision:
    """bfloat16 where the GPU has it, else float16 with a scaled loss; on a CPU float32 unless a type is named."""
    kind = None
    if amp and amp_dtype != "auto":
        kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}[amp_dtype]
    elif amp and device.type == "cuda":
        kind = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Precision(kind, torch.amp.GradScaler(device.type, enabled=kind is torch.float16))


def network_input(images: Tensor, device: torch.device) -> Tensor:
    """Turn (B, 3, H, W) uint8 into float32 in 0..1, channels last, on the device."""
    return images.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)


def batch_losses(raw: RawDetections, batch: Batch, criterion: Criterion, device: torch.device) -> DetectionLossParts:
    """Loss of the raw outputs for a batch, in float32 whatever the network computed in."""
    raw = raw._replace(levels=[level.float() for level in raw.levels])
    targets = (batch.boxes_cxcywh_norm, batch.classes, batch.batch_index, batch.masks)
    return criterion(raw, *(target.to(device) for target in targets if target is not None))


@dataclass
class Stepper:
    """Everything that one batch changes.

    Attributes:
        step: batches seen since the start of the run.
        waiting: batches whose gradients wait for the next optimizer step.
        pieces: in how many a batch is computed; doubled when memory runs out.
        say: called with one line when that happens.
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
    pieces: int = 1
    say: Callable[[str], None] = print
    ranks: Ranks = ALONE

    def __call__(self, batch: Batch, rates: Rates, *, last: bool, files: Callable[[], Sequence[str]]) -> Losses:
        """Train on one batch; the optimizer steps when enough batches wait, and at the last of an epoch.

        Args:
            batch: images and targets.
            rates: rates of this batch.
            last: whether the epoch ends here.
            files: image files of the batch, named if the loss is not finite.

        Raises:
            TrainingError: loss or gradient is not finite, or one image needs more memory than there is; no weight was
                changed.
        """
        set_rates(self.optimizer, rates)
        while (losses := self._try_backward(batch, files)) is None:
            self._halve(batch)
        self.step += 1
        self.waiting += 1
        if last or self.waiting >= rates.accumulate:
            self._update(files)
        return losses

    def _try_backward(self, batch: Batch, files: Callable[[], Sequence[str]]) -> Losses | None:
        """Add the gradients of a batch, piece by piece; None when memory ran out."""
        try:
            sums = [0.0] * len(Losses._fields)
            for piece in split(batch, self.pieces) if self.pieces > 1 else [batch]:
                share = len(piece.images) / len(batch.images)
                sums = [s + share * loss for s, loss in zip(sums, self._backward(piece, files), strict=True)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # leaving lets go of what the failed piece held
        return Losses(*sums)

    def _backward(self, batch: Batch, files: Callable[[], Sequence[str]]) -> Losses:
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
        return losses

    def idle(self, rates: Rates) -> Losses:
        """Take part in the last step of an epoch without a batch: other ranks have some."""
        set_rates(self.optimizer, rates)
        self.norms.next_batch()
        nothing = blank_forward(self.model, self.device)
        whole = Tally(*self.ranks.total(torch.zeros(len(Tally._fields), dtype=torch.float64)).tolist())
        if not all(map(math.isfinite, whole)):
            raise self.ranks.lost("the loss of another rank is not finite")
        self.precision.scaler.scale(nothing).backward()  # type: ignore[no-untyped-call]
        self.step += 1
        self._update(list)
        return whole.losses()

    def _of_all_ranks(self, parts: DetectionLossParts, images: int) -> tuple[Tensor, Losses]:
        """This rank's share of the whole batch's loss, to be differentiated, and the parts of the whole."""
        if self.ranks.world_size == 1:
            return parts.total, Losses(*(0.0 if p is None else float(p) for p in (*parts[1:4], parts.seg)))
        mine = Tally.of(parts, images)
        whole = Tally(*self.ranks.total(torch.tensor(mine, dtype=torch.float64)).tolist())
        images_share = whole.images / mine.images
        share = images_share * mine.divisor / whole.divisor
        if parts.seg_total is None:
            return parts.total * share, whole.losses()
        mask_share = images_share * mine.mask_divisor / whole.mask_divisor
        return (parts.total - parts.seg_total) * share + parts.seg_total * mask_share, whole.losses()

    def _halve(self, batch: Batch) -> None:
        """Compute batches in twice as many pieces from now on; gradients of the window at hand start over."""
        self._check_can_halve(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.norms.count_again()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.pieces *= 2
        self.say(
            f"out of memory: batches of {len(batch.images)} are computed in {self.pieces} pieces from now on "
            f"({self.waiting} waiting batches are lost, the optimizer steps as before); a smaller --batch avoids this"
        )
        self.waiting = 0

    def _check_can_halve(self, batch: Batch) -> None:
        """A rank cannot compute in pieces: the others would wait for sums that it makes at another time."""
        images, side = len(batch.images), batch.images.shape[-1]
        if self.ranks.world_size > 1:
            what, remedy = f"rank {self.ranks.rank}: out of memory with its {images} images", "lower --batch"
        elif self.pieces >= images:
            what, remedy = "out of memory with a single image", "lower --imgsz or take a smaller model"
        else:
            return
        raise TrainingError(
            f"step {self.step + 1}: {what} of {side} x {side} pixels on {self.device}; {remedy}; "
            "the last saved checkpoint is untouched"
        )

    def _update(self, files: Callable[[], Sequence[str]]) -> None:
        scaler = self.precision.scaler
        self.ranks.add_gradients(self.model)
        scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        never = not scaler.is_enabled() or scaler.get_scale() < SMALLEST_SCALE
        if never and not torch.isfinite(norm):
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
        half = "try amp=False, " if self.precision.autocast else ""
        lr = self.optimizer.param_groups[0]["lr"]
        return (
            f"step {self.step + 1}: {what} (lr {lr:g}); images of the batch: {named}{more}. The last saved checkpoint "
            f"is untouched: lower --lr0, {half}and look at the labels with `mamba-yolo check`"
        )
