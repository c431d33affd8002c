"""`mamba-yolo convert`: YOLO, COCO and VOC, each into each; official weights into ours and back.

Test: tests/cli/test_check_convert.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome
from mamba_yolo.data import convert_dataset
from mamba_yolo.engine.bridge import convert_weights, is_weights
from mamba_yolo.models.presets import describe

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import ConvertConfig

MOST_NAMES = 8


def run(config: ConvertConfig) -> Outcome:
    """Read a data set or weights and write them in another format."""
    check_given("source", config.source)
    check_given("target", config.target)
    if is_weights(config.source):
        return _convert_weights(config.source, config.target)
    convert_dataset(config.source, config.target, config.to)
    return Outcome([f"{config.source} → {config.target} ({config.to})", f"next: mamba-yolo check data={config.target}"])


def _convert_weights(source: str, target: str) -> Outcome:
    checkpoint = convert_weights(source, target)
    names = list(checkpoint.names.values())
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    classes = f"{len(names)} classes: {', '.join(names[:MOST_NAMES])}{more}"
    if source.endswith(".safetensors"):
        form, advice = "official key names", "read it with safetensors.torch.load_file"
    else:
        form, advice = "ours", f"mamba-yolo predict source=photo.jpg model={target}"
    return Outcome([f"{source} → {target} ({form})", f"{describe(checkpoint.arch)}, {classes}", f"next: {advice}"])
