"""What several tests need: where shared data lies, and how close is close."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent


def shared(name: str) -> Path:
    """Path below ../shared; the test is skipped where that folder is not beside the checkout."""
    path = ROOT.parent / "shared" / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}, which is not beside this checkout")
    return path


def golden(task: str) -> dict[str, Tensor]:
    """Tensors recorded from the reference network of width 1/16; "weights." are in half precision."""
    return load_file(shared(f"goldens/official_width_1_16_{task}.safetensors"))


def golden_weights(task: str) -> dict[str, Tensor]:
    """Official key names to float32 weights."""
    weights = {k.removeprefix("weights."): t for k, t in golden(task).items() if k.startswith("weights.")}
    return {k: t.float() if t.is_floating_point() else t for k, t in weights.items()}


def assert_close_to_scale(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Largest difference below tolerance times the largest expected magnitude."""
    assert actual.shape == expected.shape
    error = ((actual.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
    assert error < tolerance, f"differs by {error:.2e} of its scale"
