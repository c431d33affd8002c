"""Training, top to bottom: prepare, then per epoch train, validate, record, save; at the end the best file is proved.

The same seed gives the same weights bit for bit on a CPU, and so does a run that was killed and resumed: an epoch ends
with an optimizer step, every random number depends on (seed, epoch, position) or on saved state, and rows and weights
reach the disk in an order that leaves no gap. Test: tests/engine/test_train.py, test_resume.py.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mamba_yolo.engine.callbacks import BATCHES_SHOWN, Callback, describe
from mamba_yolo.engine.checkpoint import Checkpoint, fit_classes, save
from mamba_yolo.engine.checkpoint import load as load_checkpoint
from mamba_yolo.engine.listeners import make_callbacks
from mamba_yolo.engine.memory import keep_freed_memory
from mamba_yolo.engine.pictures import Pictures
from mamba_yolo.engine.prepare import Training, describe_run, resume, start
from mamba_yolo.engine.progress import Reporter, memory_note
from mamba_yolo.engine.recorder import read_rows
from mamba_yolo.engine.report import Report, short_path, write_report
from mamba_yolo.engine.resume import capture
from mamba_yolo.engine.step import Losses
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.data import Hook
    from mamba_yolo.engine.callbacks import Run
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


def train(
    config: TrainConfig,
    *,
    model: Detector | None = None,
    names: Mapping[int, str] | None = None,
    callbacks: Sequence[Callback] = (),
    hook: Hook | None = None,
    progress: Reporter | None = None,
) -> TrainResult:
    """Train a detector and prove its best weights.

    Args:
        config: options of the run.
        model: start from this detector; otherwise from `config.model`.
        names: class names `model` was made for.
        callbacks: listeners, before those that `config.callbacks` names.
        hook: a change of every training picture, as in `Loader`: its time comes on top of every step. It is not saved:
            a resumed run needs it again.
        progress: where to report; standard error if left out.

    Raises:
        DataError: the training split has no box.
        CheckpointError: what is to be resumed does not fit.
        TrainingError: loss or outputs are not finite, or the best file does not give its figures again.
        SaveError: nothing can be written; the last checkpoint is untouched.
    """
    keep_freed_memory()
    reporter = progress or Reporter()
    callbacks = (*callbacks, *make_callbacks(config.callbacks, reporter))
    if config.plots:
        callbacks = (*callbacks, Pictures(reporter))
    if config.resume:
        training = resume(config, reporter, callbacks, hook)
    else:
        training = start(config, model, names, reporter, callbacks, hook)
    run = describe_run(training)
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
    if training.config.plots:
        _report(training, run, metrics)
    return TrainResult(training.folder, training.best_path, metrics, training.best_epoch, training.epoch)


def _run_epoch(training: Training, epoch: int) -> None:
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


def _train_epoch(training: Training, epoch: int) -> tuple[Losses, list[float]]:
    """One pass over the training split; returns mean losses and the last learning rates."""
    config, stepper, count = training.config, training.stepper, len(training.loader)
    stepper.model.train()
    sums = np.zeros(3)
    with training.reporter.bar(f"epoch {epoch + 1}/{config.epochs}", count) as bar:
        for index, batch in enumerate(training.loader.epoch(epoch)):
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


def _validate(training: Training, detector: Detector | None = None) -> Metrics:
    """Figures of the averaged weights, or, for the last word, of another detector."""
    config, stepper = training.config, training.stepper
    return validate(
        detector or stepper.ema.module,  # type: ignore[arg-type]
        training.val_loader,
        iou=config.iou,
        max_det=config.max_det,
        device=stepper.device,
        progress=training.reporter,
        criterion=stepper.criterion,
        watch=lambda batch, found: training.tell(lambda c: c.on_validation_batch(batch, found)),
        per_image=detector is not None and config.plots,
    )


def _save(training: Training, epoch: int, metrics: Metrics | None) -> None:
    """Write best, where this epoch is, then last: a kill in between repeats the epoch and writes best again."""
    config, ema = training.config, training.stepper.ema.module
    weights = Checkpoint(
        arch=ema.config,  # type: ignore[arg-type]
        names=training.names,
        weights=ema.state_dict(),
        imgsz=config.imgsz,
        training_set=short_path(config.data),
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


def _prove_best(training: Training) -> Metrics:
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


def _report(training: Training, run: Run, metrics: Metrics) -> None:
    """The page about the run."""
    minutes = training.seconds / 60
    report = Report(
        title=f"{short_path(training.config.model)} on {short_path(training.config.data)}",
        config=training.config,
        metrics=metrics,
        dataset=training.val_loader.dataset,
        boxes_xywh_norm=run.boxes_xywh_norm,
        classes=run.classes,
        labels_of=f"{len(training.train_set)} training images",
        facts={
            "trained on": f"{len(training.train_set)} images, {training.epoch} epochs in {minutes:.1f} min, "
            f"{training.stepper.device}",
            "best epoch": str(training.best_epoch),
            "weights": str(training.best_path),
        },
        rows=read_rows(training.recorder.csv_path),
    )
    write_report(report, training.folder)


def _loss_columns(prefix: str, losses: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}_loss": value for name, value in losses.items()}
