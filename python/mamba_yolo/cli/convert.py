"""`mamba-yolo convert`: YOLO, COCO and VOC, each into each. Test: tests/cli/test_check_convert.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome
from mamba_yolo.data import convert_dataset

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import ConvertConfig


def run(config: ConvertConfig) -> Outcome:
    """Read a data set and write it in another format."""
    check_given("source", config.source)
    check_given("target", config.target)
    convert_dataset(config.source, config.target, config.to)
    return Outcome([f"{config.source} → {config.target} ({config.to})", f"next: mamba-yolo check data={config.target}"])
