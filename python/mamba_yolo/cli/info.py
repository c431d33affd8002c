"""`mamba-yolo info`: parameters and FLOPs, beside the papers' figures. Test: tests/cli/test_info.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import InfoConfig
    from mamba_yolo.cli.console import Outcome


def run(config: InfoConfig) -> Outcome:
    """Count."""
    raise NotImplementedError(config)
