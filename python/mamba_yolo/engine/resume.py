"""Stopping and going on: the state of a run as one record, and back.

A resumed run keeps its own options; asking for others is an error, because the result would be neither run.
Test: tests/engine/test_resume.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.config import AUTO_BATCH, TrainConfig, from_flat, to_dict
from mamba_yolo.engine.checkpoint import Checkpoint, ResumeState, load
from mamba_yolo.engine.recorder import last_checkpoint
from mamba_yolo.errors import CheckpointError

if TYPE_CHECKING:
    from mamba_yolo.engine.step import Stepper

# Where and how a run is computed may change between its parts; what is computed may not.
FREE = ("resume", "device", "workers", "project", "name", "plots", "callbacks", "time", "save_period", "model")


def find_checkpoint(config: TrainConfig) -> tuple[Path, Checkpoint]:
    """The last.safetensors to go on from: --model if it is a weights file, else the newest of project/name*.

    Raises:
        MissingFileError: there is none.
        CheckpointError: it holds no resume state, its run is finished, or the options ask for another run.
    """
    given = config.model.endswith(".safetensors")
    path = Path(config.model) if given else last_checkpoint(config.project, config.name)
    checkpoint = load(path)
    if checkpoint.resume is None:
        raise CheckpointError(f"{path}: holds weights only, a resume needs last.safetensors; start without --resume")
    saved = resumed_config(config, checkpoint.resume, path)
    if checkpoint.resume.epoch >= saved.epochs:
        raise CheckpointError(
            f"{path}: this run finished its {saved.epochs} epochs; start a new one with --model {path}"
        )
    return path, checkpoint


def resumed_config(asked: TrainConfig, state: ResumeState, path: Path) -> TrainConfig:
    """The options of the saved run with the free ones of the new command.

    Raises:
        CheckpointError: an option was set to something else than the run had.
    """
    saved = from_flat(TrainConfig, state.config)
    default = TrainConfig()
    for f in dataclasses.fields(TrainConfig):
        new, old = getattr(asked, f.name), getattr(saved, f.name)
        allowed = [old, getattr(default, f.name)]
        if f.name == "model":
            allowed.append(str(path))
        if f.name == "batch":  # the saved number was chosen at the start
            allowed.append(AUTO_BATCH)
        differs = new not in allowed and not (f.name == "data" and Path(new).resolve() == Path(old).resolve())
        if differs and (f.name == "model" or f.name not in FREE):
            raise CheckpointError(
                f"{path}: resuming a run with {f.name}={old!r}, but {new!r} was asked for; leave it out, "
                f"or start a new run with --model {path}"
            )
    free = {name: getattr(asked, name) for name in FREE if name != "model"}
    return dataclasses.replace(saved, **free)


def capture(stepper: Stepper, config: TrainConfig, loader: dict[str, Any], **progress: Any) -> ResumeState:
    """Record a run between two epochs; `progress` is epoch, best_fitness, best_epoch, seconds and images."""
    optimizer = stepper.optimizer.state_dict()["state"]
    return ResumeState(
        model=stepper.model.state_dict(),
        optimizer={i: {k: v for k, v in s.items() if v is not None} for i, s in optimizer.items()},
        random=_random_states(),
        scaler=stepper.precision.scaler.state_dict(),
        loader=loader,
        config=to_dict(config),
        step=stepper.step,
        ema_updates=stepper.ema.updates,
        pieces=stepper.pieces,
        **progress,
    )


def restore(stepper: Stepper, checkpoint: Checkpoint, state: ResumeState) -> None:
    """Put everything back that `capture` recorded, except the loader's state."""
    stepper.model.load_state_dict(state.model)
    stepper.ema.module.load_state_dict(checkpoint.weights)
    stepper.ema.updates = state.ema_updates
    stepper.optimizer.load_state_dict({**stepper.optimizer.state_dict(), "state": state.optimizer})
    if state.scaler:
        stepper.precision.scaler.load_state_dict(state.scaler)
    stepper.step = state.step
    stepper.pieces = state.pieces if stepper.ranks.world_size == 1 else 1  # ranks have no pieces
    torch.set_rng_state(state.random["cpu"])
    for name, value in state.random.items():
        if name.startswith("cuda") and int(name.removeprefix("cuda")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value, int(name.removeprefix("cuda")))


def _random_states() -> dict[str, torch.Tensor]:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), **{f"cuda{i}": state for i, state in enumerate(gpus)}}
