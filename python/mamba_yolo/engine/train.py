"""Training, top to bottom: prepare, then per epoch train, validate, record, save; at the end the best file is proved.

The same seed gives the same weights bit for bit on a CPU, and so does a run that was killed and resumed: an epoch ends
with an optimizer step, every random number depends on (seed, epoch, position) or on saved state, and rows and weights
reach the disk in an order that leaves no gap. Test: tests/engine/test_train.py, test_resume.py.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.engine.callbacks import BATCHES_SHOWN, Callback, Run, describe
from mamba_yolo.engine.checkpoint import Checkpoint, fit_classes, load_model, save
from mamba_yolo.engine.checkpoint import load as load_checkpoint
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.ema import Ema
from mamba_yolo.engine.optim import Plan, build_optimizer, make_plan
from mamba_yolo.engine.progress import Reporter, memory_note
from mamba_yolo.engine.recorder import Recorder, new_run_folder
from mamba_yolo.engine.resume import capture, find_checkpoint, restore, resumed_config
from mamba_yolo.engine.schedule import ema_tau
from mamba_yolo.engine.step import Losses, Stepper, choose_precision
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import CheckpointError, DataError, TrainingError
from mamba_yolo.losses.detection import DetectionLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.data import Dataset
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.models.detector import Detector

# How far the figures of the reloaded best file may be off: a CPU repeats itself, a GPU chooses algorithms as it goes.
REPRODUCTION_TOLERANCE = {"cpu": 1e-6, "cuda": 2e-3}


class TrainResult(NamedTuple):
    """Outcome of a run.

    Attributes:
        run_dir: folder of the run.
        best: weights/best.safetensors.
        best_metrics: its figures, measured again from the file.
        best_epoch: epoch it comes from, counted from 1.
        epochs: finished epochs.
    """

    run_dir: Path
    best: Path
    best_metrics: Metrics
    best_epoch: int
    epochs: int


@dataclass
class _Training:
    """A run in progress."""

    config: TrainConfig
    folder: Path
    names: dict[int, str]
    train_set: Dataset
    val_set: Dataset
    loader: Loader
    plan: Plan
    stepper: Stepper
    recorder: Recorder
    reporter: Reporter
    callbacks: Sequence[Callback]
    epoch: int = 0
    best_fitness: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0

    @property
    def best_path(self) -> Path:
        return self.folder / "weights" / "best.safetensors"

    @property
    def last_path(self) -> Path:
        return self.folder / "weights" / "last.safetensors"

    def tell(self, hook: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            hook(callback)


def train(
    config: TrainConfig,
    *,
    model: Detector | None = None,
    names: Mapping[int, str] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Reporter | None = None,
) -> TrainResult:
    """Train a detector and prove its best weights.

    Args:
        config: options of the run.
        model: start from this detector; otherwise from `config.model`.
        names: class names `model` was made for.
        callbacks: listeners.
        progress: where to report; standard error if left out.

    Raises:
        DataError: the training split has no box.
        CheckpointError: what is to be resumed does not fit.
        TrainingError: loss or outputs are not finite, or the best file does not give its figures again.
        SaveError: nothing can be written; the last checkpoint is untouched.
    """
    reporter = progress or Reporter()
    training = _resume(config, reporter, callbacks) if config.resume else _start(config, model, names, reporter, callbacks)
    run = _describe_run(training)
    training.tell(lambda c: c.on_run_start(run))
    try:
        for epoch in range(training.epoch, training.config.epochs):
            _run_epoch(training, epoch)
            if training.epoch - training.best_epoch >= training.config.patience and training.best_epoch:
                reporter.say(f"no better epoch in {training.config.patience}: stopped after epoch {training.epoch}")
                break
        metrics = _prove_best(training)
    except KeyboardInterrupt:
        where = f"{training.last_path}; go on with --resume --model {training.last_path}"
        reporter.say(f"interrupted: epoch {training.epoch} is safe in {where}" if training.epoch else "interrupted")
        raise
    training.tell(lambda c: c.on_run_end(training.folder, metrics))
    return TrainResult(training.folder, training.best_path, metrics, training.best_epoch, training.epoch)


def _start(
    config: TrainConfig,
    model: Detector | None,
    names: Mapping[int, str] | None,
    reporter: Reporter,
    callbacks: Sequence[Callback],
) -> _Training:
    device = pick_device(config.device)
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    _check_boxes(train_set, config)
    torch.manual_seed(config.seed)
    detector = _starting_model(config, model, names, train_set.names, reporter)
    folder = new_run_folder(config.project, config.name)
    return _assemble(config, folder, detector, (train_set, val_set), device, reporter, callbacks)


def _resume(config: TrainConfig, reporter: Reporter, callbacks: Sequence[Callback]) -> _Training:
    path, checkpoint = find_checkpoint(config)
    state = checkpoint.resume
    assert state is not None  # find_checkpoint saw to it
    config = resumed_config(config, state, path)
    device = pick_device(config.device)
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    if train_set.names != checkpoint.names:
        raise CheckpointError(f"{path}: the classes of {config.data} are not those of this run; start a new one")
    detector, _ = fit_classes(checkpoint.arch, checkpoint.weights, checkpoint.arch.num_classes, str(path))
    folder = path.resolve().parent.parent
    training = _assemble(config, folder, detector, (train_set, val_set), device, reporter, callbacks, state.epoch)
    restore(training.stepper, checkpoint, state)
    training.loader.load_state_dict(state.loader)
    training.best_fitness, training.best_epoch = state.best_fitness, state.best_epoch
    training.seconds = state.seconds
    reporter.say(f"resuming {folder} after epoch {state.epoch}")
    return training


def _assemble(
    config: TrainConfig,
    folder: Path,
    detector: Detector,
    sets: tuple[Dataset, Dataset],
    device: torch.device,
    reporter: Reporter,
    callbacks: Sequence[Callback],
    epoch: int = 0,
) -> _Training:
    train_set, val_set = sets
    loader = Loader(
        train_set,
        imgsz=config.imgsz,
        batch_size=config.batch,
        train=True,
        seed=config.seed,
        threads=config.workers,
        augment=config.augment,
    )
    detector.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = make_plan(config, len(loader), len(train_set.names))
    stepper = Stepper(
        model=detector,
        criterion=DetectionLoss(len(train_set.names), detector.strides, config.box, config.cls, config.dfl),
        optimizer=build_optimizer(detector, plan),
        ema=Ema(detector, config.ema, ema_tau(plan.steps)),
        precision=choose_precision(device, config.amp),
        device=device,
        clip=config.clip,
    )
    recorder = Recorder(folder, config, epoch)
    reporter.say(f"{len(train_set)} training and {len(val_set)} validation images, {len(train_set.names)} classes, {device}")
    reporter.say(plan.describe())
    return _Training(
        config, folder, train_set.names, train_set, val_set, loader, plan, stepper, recorder, reporter, callbacks, epoch
    )


def _starting_model(
    config: TrainConfig,
    model: Detector | None,
    names: Mapping[int, str] | None,
    data_names: Mapping[int, str],
    reporter: Reporter,
) -> Detector:
    """The given detector, or that of config.model, with as many classes as the data."""
    if model is None:
        preset = not config.model.endswith((".safetensors", ".pt", ".pth"))
        loaded = load_model(config.model, num_classes=len(data_names), variant=config.variant if preset else None)
        detector, not_taken = loaded.detector, loaded.not_taken
        names = None if preset else loaded.names
    else:
        detector, not_taken = fit_classes(model.config, model.state_dict(), len(data_names), "model")
    if not_taken:
        reporter.say(f"other classes: {len(not_taken)} class layers of the head start at random, all else is taken")
    elif names is not None and dict(names) != dict(data_names):
        reporter.say("other class names than the weights had: their class layers are taken as a start")
    return detector


def _run_epoch(training: _Training, epoch: int) -> None:
    """Train, validate where due, record, save."""
    config, start = training.config, time.perf_counter()
    losses, rates = _train_epoch(training, epoch)
    due = (epoch + 1) % config.val_period == 0 or epoch + 1 == config.epochs
    metrics = _validate(training) if due else None
    training.seconds += time.perf_counter() - start
    row: dict[str, float] = {"epoch": epoch + 1, "time": training.seconds, **_loss_columns("train", losses._asdict())}
    if metrics is not None:
        keys = ("precision(B)", "recall(B)", "mAP50(B)", "mAP50-95(B)")
        row |= {f"metrics/{k}": v for k, v in zip(keys, metrics.figures().values(), strict=True)}
        row |= _loss_columns("val", metrics.losses)
    row |= {f"lr/pg{i}": rate for i, rate in enumerate(rates)}
    training.recorder.write(row, metrics.to_dict() if metrics else None)
    _save(training, epoch + 1, metrics)
    training.epoch = epoch + 1
    if metrics is not None:
        training.reporter.say(f"epoch {epoch + 1}/{config.epochs}: {describe(row)}")
    training.tell(lambda c: c.on_epoch_end(epoch + 1, row, metrics))


def _train_epoch(training: _Training, epoch: int) -> tuple[Losses, list[float]]:
    """One pass over the training split; returns mean losses and the last learning rates."""
    config, stepper, count = training.config, training.stepper, len(training.loader)
    closing = epoch >= config.epochs - config.close_mosaic
    augment = dataclasses.replace(config.augment, mosaic=0.0) if closing else config.augment
    stepper.model.train()
    sums = np.zeros(3)
    with training.reporter.bar(f"epoch {epoch + 1}/{config.epochs}", count) as bar:
        for index, batch in enumerate(training.loader.epoch(epoch, augment=augment)):
            if epoch == 0 and index < BATCHES_SHOWN:
                training.tell(lambda c, i=index, b=batch: c.on_batch(i, b))  # type: ignore[misc]
            sums += stepper(
                batch,
                training.plan.schedule.at(epoch, index),
                last=index + 1 == count,
                files=lambda b=batch: [str(training.train_set[i].path) for i in b.sample_index.tolist()],  # type: ignore[misc]
            )
            means = Losses(*(sums / (index + 1)))
            note = f"box {means.box:.3f}  cls {means.cls:.3f}  dfl {means.dfl:.3f}  {memory_note(stepper.device)}"
            bar.advance(images=len(batch.images), note=note)
    return means, [group["lr"] for group in stepper.optimizer.param_groups]


def _validate(training: _Training, detector: Detector | None = None) -> Metrics:
    """Figures of the averaged weights, or of another detector."""
    config, stepper = training.config, training.stepper
    return validate(
        detector or stepper.ema.module,  # type: ignore[arg-type]
        training.val_set,
        imgsz=config.imgsz,
        batch=config.batch,
        iou=config.iou,
        max_det=config.max_det,
        device=stepper.device,
        threads=config.workers,
        progress=training.reporter,
        criterion=stepper.criterion,
        watch=lambda batch, found: training.tell(lambda c: c.on_validation_batch(batch, found)),
    )


def _save(training: _Training, epoch: int, metrics: Metrics | None) -> None:
    """Write best, where this epoch is, then last: a kill in between repeats the epoch and writes best again."""
    config, ema = training.config, training.stepper.ema.module
    weights = Checkpoint(
        arch=ema.config,  # type: ignore[arg-type]
        names=training.names,
        weights=ema.state_dict(),
        imgsz=config.imgsz,
        training_set="/".join(config.data.replace("\\", "/").split("/")[-2:]),
        figures=metrics.figures() if metrics else {},
    )
    if metrics is not None and metrics.fitness >= training.best_fitness:
        save(training.best_path, weights)
        training.best_fitness, training.best_epoch = metrics.fitness, epoch
    state = capture(
        training.stepper,
        config,
        training.loader.state_dict(),
        epoch=epoch,
        best_fitness=training.best_fitness,
        best_epoch=training.best_epoch,
        seconds=training.seconds,
    )
    save(training.last_path, dataclasses.replace(weights, resume=state))


def _prove_best(training: _Training) -> Metrics:
    """Validate the best file as it lies on the disk; its figures must come out again."""
    stored = load_checkpoint(training.best_path)
    detector, _ = fit_classes(stored.arch, stored.weights, stored.arch.num_classes, str(training.best_path))
    metrics = _validate(training, detector)
    tolerance = REPRODUCTION_TOLERANCE.get(training.stepper.device.type, max(REPRODUCTION_TOLERANCE.values()))
    for name, value in metrics.figures().items():
        if not math.isclose(value, stored.figures[name], rel_tol=0, abs_tol=tolerance):
            raise TrainingError(
                f"{training.best_path}: gives {name} {value:.6f} where training measured {stored.figures[name]:.6f}; "
                "do not use this file, and report it with the run folder"
            )
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.figures().items())
    training.reporter.say(f"best epoch {training.best_epoch}, measured again from {training.best_path}: {shown}")
    return metrics


def _describe_run(training: _Training) -> Run:
    """Labels of the training split, as fractions of their images."""
    boxes, classes = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for i in range(len(training.train_set)):
        sample = training.train_set[i]
        height, width = training.train_set.image_size(i)
        corners = sample.boxes_xyxy / np.array([width, height, width, height], np.float32)
        boxes.append(np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1))
        classes.append(sample.classes)
    return Run(training.folder, training.config, training.names, np.concatenate(boxes), np.concatenate(classes))


def _check_boxes(train_set: Dataset, config: TrainConfig) -> None:
    if not any(len(train_set[i].boxes_xyxy) for i in range(len(train_set))):
        raise DataError(
            f"{config.data}: no boxes in its {len(train_set)} training images; look at it with `mamba-yolo check`"
        )


def _loss_columns(prefix: str, losses: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}_loss": value for name, value in losses.items()}
