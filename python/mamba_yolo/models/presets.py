"""Named sizes and variants: Python values, no files to parse.

t, b, l are the paper's (arXiv 2406.05835, table 1); n is this project's, for CPUs and tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mamba_yolo.checks import unknown_name
from mamba_yolo.config import DetectorConfig, from_flat
from mamba_yolo.errors import ConfigError
from mamba_yolo.models.detector import Detector

if TYPE_CHECKING:
    from mamba_yolo.config import Task, Variant

PREFIX, SEGMENT_SUFFIX = "mamba-yolo-", "-seg"
SIZES: dict[str, dict[str, Any]] = {
    "n": {"depth": 0.33, "width": 0.125, "max_channels": 1024},
    "t": {"depth": 0.33, "width": 0.25, "max_channels": 1024},
    "b": {"depth": 0.33, "width": 0.5, "max_channels": 1024},
    "l": {"depth": 0.67, "width": 0.75, "max_channels": 768},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "v1": {"stage_depths": (3, 3, 9, 3), "local_spatial": True},
    "v2": {"stage_depths": (3, 6, 6, 3), "local_spatial": False},
}
PRESETS = tuple(f"{PREFIX}{size}{suffix}" for suffix in ("", SEGMENT_SUFFIX) for size in SIZES)


def preset_config(
    name: str, num_classes: int = 80, variant: Variant = "v1", task: Task = "detect", **overrides: Any
) -> DetectorConfig:
    """Config of a preset.

    Args:
        name: one of PRESETS, or short: "t", "t-seg"; "-seg" means task "segment".
        num_classes: number of classes.
        variant: v1 is the released design with the local-spatial block, v2 the AAAI text without it.
        task: detect or segment.
        **overrides: fields of DetectorConfig.

    Raises:
        ConfigError: an unknown name or a value outside its domain.
    """
    short = name.removeprefix(PREFIX)
    size = short.removesuffix(SEGMENT_SUFFIX)
    if size not in SIZES:
        raise ConfigError(unknown_name(name, PRESETS).replace("option", "model"))
    if variant not in VARIANTS:
        raise ConfigError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    chosen_task = "segment" if short.endswith(SEGMENT_SUFFIX) else task
    values = {"num_classes": num_classes, "task": chosen_task, **SIZES[size], **VARIANTS[variant], **overrides}
    return from_flat(DetectorConfig, values)


def describe(config: DetectorConfig) -> str:
    """Name of a config in a few words: "mamba-yolo-t-seg v1", or its factors where no preset has them."""
    sizes = [n for n, size in SIZES.items() if all(getattr(config, name) == value for name, value in size.items())]
    size = sizes[0] if sizes else f"(depth {config.depth:g}, width {config.width:g}, at most {config.max_channels})"
    suffix = SEGMENT_SUFFIX if config.task == "segment" else ""
    variants = [n for n, v in VARIANTS.items() if all(getattr(config, name) == value for name, value in v.items())]
    return f"{PREFIX}{size}{suffix} {variants[0] if variants else 'ablation'}"


def build_detector(
    preset: str, num_classes: int = 80, variant: Variant = "v1", task: Task = "detect", **overrides: Any
) -> Detector:
    """Detector with random weights; arguments as in `preset_config`."""
    return Detector(preset_config(preset, num_classes, variant, task, **overrides))
