"""What batches, and the shares that ranks have of them, add to a loss that is divided by the scores of the whole.

Test: tests/engine/test_step.py, tests/engine/test_ranks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mamba_yolo.config import Task
    from mamba_yolo.losses.detection import DetectionLossParts

LOSS_NAMES: dict[Task, tuple[str, ...]] = {"detect": ("box", "cls", "dfl"), "segment": ("box", "seg", "cls", "dfl")}


class Losses(NamedTuple):
    """Loss parts of one batch as numbers; seg is 0 for a detector."""

    box: float
    cls: float
    dfl: float
    seg: float = 0.0

    def named(self, task: Task) -> dict[str, float]:
        """The parts that a kind of network has, in the order of results.csv."""
        values = self._asdict()
        return {name: values[name] for name in LOSS_NAMES[task]}


class Tally(NamedTuple):
    """Sums over a batch or a share of it; those of shares add up.

    Attributes:
        images: how many.
        scores: their target scores.
        box: loss part before its division by the scores.
        cls: likewise.
        dfl: likewise.
        learners: anchors that learn a mask.
        seg: mask loss before its division by their number.
    """

    images: float
    scores: float
    box: float
    cls: float
    dfl: float
    learners: float = 0.0
    seg: float = 0.0

    @classmethod
    def of(cls, parts: DetectionLossParts, images: int) -> Tally:
        """Undo the division of a loss."""
        divisor = max(float(parts.scores), 1.0)
        box, cls_, dfl = (float(part) * divisor for part in (parts.box, parts.cls, parts.dfl))
        if parts.seg is None or parts.learners is None:
            return cls(images, float(parts.scores), box, cls_, dfl)
        learners = float(parts.learners)
        return cls(images, float(parts.scores), box, cls_, dfl, learners, float(parts.seg) * max(learners, 1.0))

    @property
    def divisor(self) -> float:
        """What box, cls and dfl of these images are divided by."""
        return max(self.scores, 1.0)

    @property
    def mask_divisor(self) -> float:
        """What seg of these images is divided by."""
        return max(self.learners, 1.0)

    def losses(self) -> Losses:
        """The parts, divided."""
        return Losses(
            self.box / self.divisor, self.cls / self.divisor, self.dfl / self.divisor, self.seg / self.mask_divisor
        )
