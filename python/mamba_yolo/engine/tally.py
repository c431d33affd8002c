"""What batches, and the shares that ranks have of them, add to a loss that is divided by the scores of the whole.

Test: tests/engine/test_step.py, tests/engine/test_ranks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mamba_yolo.losses.detection import DetectionLossParts


class Tally(NamedTuple):
    """Sums over a batch or a share of it; those of shares add up.

    Attributes:
        images: how many.
        scores: their target scores.
        box: loss part before its division by the scores.
        cls: likewise.
        dfl: likewise.
    """

    images: float
    scores: float
    box: float
    cls: float
    dfl: float

    @classmethod
    def of(cls, parts: DetectionLossParts, images: int) -> Tally:
        """Undo the division of a loss."""
        divisor = max(float(parts.scores), 1.0)
        undone = (float(part) * divisor for part in (parts.box, parts.cls, parts.dfl))
        return cls(images, float(parts.scores), *undone)

    @property
    def divisor(self) -> float:
        """What a loss of these images is divided by."""
        return max(self.scores, 1.0)

    def parts(self) -> tuple[float, float, float]:
        """box, cls and dfl, divided."""
        return self.box / self.divisor, self.cls / self.divisor, self.dfl / self.divisor
