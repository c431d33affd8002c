"""How training pictures are varied: the options, checked when made. Drawn and applied in `rust/src/augment`.

Standard library only. The native module takes the fields in this order. Test: tests/data/test_augment.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from mamba_yolo.checks import check_range
from mamba_yolo.errors import ConfigError


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied; the names and defaults YOLO users know."""

    hsv_h: float = 0.015
    """Hue shift, fraction of the circle, drawn from ±this."""
    hsv_s: float = 0.7
    """Saturation gain, drawn from 1 ± this."""
    hsv_v: float = 0.4
    """Value gain, drawn from 1 ± this."""
    degrees: float = 0.0
    """Rotation, drawn from ±this many degrees."""
    translate: float = 0.1
    """Shift, fraction of the image side, drawn from ±this."""
    scale: float = 0.5
    """Zoom, drawn from 1 ± this."""
    shear: float = 0.0
    """Shear in x and in y, drawn from ±this many degrees."""
    perspective: float = 0.0
    """Perspective in x and in y, drawn from ±this per pixel; 0.001 is strong."""
    fliplr: float = 0.5
    """Probability of a left-right flip."""
    flipud: float = 0.0
    """Probability of an upside-down flip."""
    mosaic: float = 1.0
    """Probability that a training image is a mosaic of four."""
    mixup: float = 0.0
    """Probability that a second training image (a mosaic of its own) is blended in."""
    cutmix: float = 0.0
    """Probability that a rectangle without objects shows a second training image; never together with mixup."""
    copy_paste: float = 0.0
    """Part of the outlined objects that is pasted mirrored where it hides little; needs polygons: an
    object with a run-length mask is not pasted (it has no outline), and crowds take no part in training."""
    multi_scale: bool = False
    """Draw the side of every batch from imgsz * 0.5 to imgsz * 1.5, in steps of 32."""

    def __post_init__(self) -> None:
        """Check every domain."""
        for name in ("hsv_h", "hsv_s", "hsv_v", "translate", "fliplr", "flipud", "mosaic", "mixup", "cutmix"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("copy_paste", self.copy_paste, 0, 1)
        check_range("scale", self.scale, 0, 0.99)
        check_range("degrees", self.degrees, 0, 180)
        check_range("shear", self.shear, 0, 40)  # at 45 in both directions a picture becomes a line
        check_range("perspective", self.perspective, 0, 0.001)
        if self.mixup + self.cutmix > 1:
            raise ConfigError(
                f"mixup + cutmix must be at most 1, as an image gets one or the other; got {self.mixup} + {self.cutmix}"
            )
