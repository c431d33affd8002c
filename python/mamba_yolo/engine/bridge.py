"""Weights from the official format to ours, and back. Test: tests/engine/test_bridge.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from mamba_yolo.engine.checkpoint import load_weights, save
from mamba_yolo.engine.packaged import WEIGHT_SUFFIXES
from mamba_yolo.engine.safefile import write_atomic
from mamba_yolo.errors import ConfigError
from mamba_yolo.models.official import export_state_dict

if TYPE_CHECKING:
    from mamba_yolo.engine.checkpoint import Checkpoint

OURS = ".safetensors"


def is_weights(source: str) -> bool:
    """Whether a path names a weights file, by its ending."""
    return Path(source).suffix in WEIGHT_SUFFIXES


def convert_weights(source: str | Path, target: str | Path) -> Checkpoint:
    """Write an official .pt as our safetensors, or our safetensors as a state dict under official key names.

    The latter is what `safetensors.torch.load_file` gives back and the official network's `load_state_dict` takes;
    class names, task and image size are in the metadata of both.

    Args:
        source: *.pt or *.pth, read and never executed; or a *.safetensors of ours.
        target: *.safetensors that does not exist yet.

    Returns:
        What was read.

    Raises:
        ConfigError: another ending of the target, or a file that exists.
        MissingFileError, CheckpointError: see `engine.checkpoint.load`; a network that the official format cannot hold.
        SaveError: full disk, missing permission.
    """
    source, target = Path(source), Path(target)
    if target.suffix != OURS:
        raise ConfigError(f"weights are written as {OURS}, got target {str(target)!r}; give target=NAME{OURS}")
    if target.exists():
        raise ConfigError(f"{target} exists already; remove it or choose another target")
    checkpoint = load_weights(source)
    if source.suffix == OURS:
        _save_official(target, checkpoint)
    else:
        save(target, checkpoint)
    return checkpoint


def _save_official(target: Path, checkpoint: Checkpoint) -> None:
    """Write a state dict under official key names."""
    state = {key: tensor.contiguous() for key, tensor in export_state_dict(checkpoint.weights).items()}
    facts = {"task": checkpoint.arch.task, "imgsz": str(checkpoint.imgsz), "names": json.dumps(checkpoint.names)}
    write_atomic(target, lambda temporary: save_file(state, temporary, metadata={"format": "pt", **facts}))
