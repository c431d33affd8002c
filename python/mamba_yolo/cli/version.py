"""`mamba-yolo version`. Test: tests/cli/test_entry.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_yolo import __native_version__, __version__
from mamba_yolo.cli.console import Outcome

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import VersionConfig


def run(config: VersionConfig) -> Outcome:
    """Versions of the package and of its native module."""
    return Outcome([f"mamba-yolo {__version__} (native module {__native_version__})"])
