"""`mamba-yolo export`: the name is reserved. Test: tests/cli/test_entry.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from mamba_yolo.errors import NotYetError

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import ExportConfig


def run(config: ExportConfig) -> NoReturn:
    """Say that it comes later."""
    raise NotYetError(
        f"export to {config.format} is not in this version; weights are plain safetensors files meanwhile"
    )
