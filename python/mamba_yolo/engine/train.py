"""Training, top to bottom: prepare, then per epoch train, validate, record, save; at the end the best file is proved.

The same seed gives the same weights bit for bit on a CPU, and so does a run that was killed and resumed: an epoch ends
with an optimizer step, every random number depends on (seed, epoch, position) or on saved state, and rows and weights
reach the disk in an order that leaves no gap. Test: tests/engine/test_train.py, test_resume.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from mamba_yolo.engine.callbacks import BATCHES_SHOWN, Callback, describe
from mamba_yolo.engine.checkpoint import Checkpoint, fit_classes, saved_epoch
from mamba_yolo.engine.checkpoint import load as load_checkpoint
from mamba_yolo.engine.freeze import train_unfrozen
from mamba_yolo.engine.launch import launch, needs_launch
from mamba_yolo.engine.listeners import make_callbacks
from mamba_yolo.engine.memory import keep_freed_memory
from mamba_yolo.engine.outcome import TrainResult
from mamba_yolo.engine.pictures import Pictures
from mamba_yolo.engine.prepare import Training, describe_run, resume, start
from mamba_yolo.engine.progress import Reporter, memory_note
from mamba_yolo.engine.ranks import join
from mamba_yolo.engine.recorder import read_rows
from mamba_yolo.engine.report import Report, short_path, write_report
from mamba_yolo.engine.restart import mark_run, resumed_after_restart
from mamba_yolo.engine.resume import capture
from mamba_yolo.engine.tally import Losses
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import SaveError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mamba_yolo.config import DetectorConfig, TrainConfig
    from mamba_yolo.data import Hook
    from mamba_yolo.engine.callbacks import Run
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.models.detector import Detector

SECONDS_PER_HOUR = 3600
# How far the figures of the reloaded best file may be off: a CPU repeats itself, a GPU chooses algorithms as it goes.
REPRODUCTION_TOLERANCE = {"cpu": 1e-6, "cuda": 2e-3}


def train(
    config: TrainConfig,
    *,
    model: Detector | None = None,
    names: Mapping[int, str] | None = None,
    callbacks: Sequence[Callback] = (),
    hook: Hook | None = None,
    progress: Reporter | None = None,
) -> TrainResult:
    """Train a detector and prove its best weights, in processes of its own where `config.device` lists several.

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
        ConfigError: a batch that the ranks cannot share, or a hook or callback that cannot follow into other processes.
    """
    if needs_launch(config.device):
        return launch(config, model=model, names=names, callbacks=callbacks, hook=hook)
    keep_freed_memory()
    with join(config.device) as ranks:
        reporter = progress or Reporter()
        if not ranks.is_first:
            reporter, callbacks = Reporter(quiet=True), ()
        else:
            callbacks = (*callbacks, *make_callbacks(config.callbacks, reporter))
            callbacks = (*callbacks, Pictures(reporter)) if config.plots else callbacks
        config = resumed_after_restart(config, ranks)
        if config.resume:
            training = resume(config, reporter, callbacks, hook, ranks)
        else:
            training = start(config, model, names, reporter, callbacks, hook, ranks)
        return _run(training)


def _run(training: Training) -> TrainResult:
    """Every epoch that is left, then the proof."""
    reporter, run = training.reporter, describe_run(training)
    mark_run(training.folder, training.ranks)
    training.tell(lambda c: c.on_run_start(run))
    try:
        for epoch in range(training.epoch, training.config.epochs):
            _run_epoch(training, epoch)
            if reason := _reason_to_stop(training):
                reporter.say(f"{reason}: stopped after epoch {training.epoch}")
                break
        training.writer.wait()
        metrics = _prove_best(training)
    except BaseException:
        _say_what_is_safe(training)
        raise
    training.tell(lambda c: c.on_run_end(training.folder, metrics))
    if training.recorder is not None and training.config.plots:
        _report(training, run, metrics, read_rows(training.recorder.csv_path))
    return TrainResult(training.folder, training.best_path, metrics, training.best_epoch, training.epoch)


def _reason_to_stop(training: Training) -> str:
    """Why a run ends before its last epoch, or nothing."""
    config = training.config
    if training.best_epoch and training.epoch - training.best_epoch >= config.patience:
        return f"no better epoch in {config.patience}"
    if config.time and training.seconds >= config.time * SECONDS_PER_HOUR:
        return f"{config.time:g} hours are over"
    return ""


def _say_what_is_safe(training: Training) -> None:
    """The way back into a run that ends with an error or an interrupt, once its files are on the disk."""
    with contextlib.suppress(SaveError):  # of a disk that is full: what was there before is still there
        training.writer.wait()
    path = training.last_path
    epoch = saved_epoch(path) if path.is_file() else 0
    if 0 < epoch < training.config.epochs:
        training.reporter.say(f"stopped: epoch {epoch} is safe in {path}; go on with --resume --model {path}")


def _run_epoch(training: Training, epoch: int) -> None:
    """Train, validate where due, record, save."""
    config, start = training.config, time.perf_counter()
    losses, rates = _train_epoch(training, epoch)
    due = (epoch + 1) % config.val_period == 0 or epoch + 1 == config.epochs
    metrics = _validate(training) if due else None
    training.seconds += training.ranks.mean(time.perf_counter() - start)
    row: dict[str, float] = {
        "epoch": epoch + 1,
        "time": training.seconds,
        **_loss_columns("train", losses.named(training.task)),
    }
    if metrics is not None:
        row |= metrics.columns() | _loss_columns("val", metrics.losses)
    row |= {f"lr/pg{i}": rate for i, rate in enumerate(rates)}
    if training.recorder is not None:
        training.recorder.write(row, metrics.to_dict() if metrics else None)
    _save(training, epoch + 1, metrics)
    training.epoch = epoch + 1
    if metrics is not None:
        training.reporter.say(f"epoch {epoch + 1}/{config.epochs}: {describe(row)}")
    training.tell(lambda c: c.on_epoch_end(epoch + 1, row, metrics))


def _train_epoch(training: Training, epoch: int) -> tuple[Losses, list[float]]:
    """One pass over the training split; returns mean losses and the last learning rates."""
    config, stepper, count = training.config, training.stepper, training.steps_per_epoch
    training.ranks.own_random_numbers(config.seed, epoch)
    train_unfrozen(stepper.model)
    sums = np.zeros(len(Losses._fields))
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
            parts = "  ".join(f"{name} {value:.3f}" for name, value in means.named(training.task).items())
            bar.advance(images=len(batch.images), note=f"{parts}  {memory_note(stepper.device)}")
        if len(training.loader) < count:  # the last batch is too small for a share of every rank
            means = Losses(*((sums + stepper.idle(training.plan.schedule.at(epoch, count - 1))) / count))
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
        watch=lambda *found: training.tell(lambda c: c.on_validation_batch(*found)),
        ranks=training.ranks,
        per_image=detector is not None and config.plots,
    )


def _save(training: Training, epoch: int, metrics: Metrics | None) -> None:
    """Write best, where this epoch is, then last: a kill in between repeats the epoch and writes best again."""
    if metrics is not None and metrics.fitness >= training.best_fitness:
        training.best_fitness, training.best_epoch = metrics.fitness, epoch
    if not training.ranks.is_first:
        return
    config, ema = training.config, training.stepper.ema.module
    weights = Checkpoint(
        arch=ema.config,  # type: ignore[arg-type]
        names=training.names,
        weights=ema.state_dict(),
        imgsz=config.imgsz,
        training_set=short_path(config.data),
        figures=metrics.figures() if metrics else {},
    )
    files = [(training.best_path, weights)] if training.best_epoch == epoch else []
    if config.save_period and epoch % config.save_period == 0:
        files.append((training.last_path.with_name(f"epoch{epoch}.safetensors"), weights))
    state = capture(
        training.stepper,
        config,
        training.loader.state_dict(),
        epoch=epoch,
        best_fitness=training.best_fitness,
        best_epoch=training.best_epoch,
        seconds=training.seconds,
        images=len(training.train_set),
    )
    files.append((training.last_path, dataclasses.replace(weights, resume=state)))
    training.writer.put(files)


def _prove_best(training: Training) -> Metrics:
    """Validate the best file as it lies on the disk; its figures must come out again."""
    ranks, ema = training.ranks, training.stepper.ema.module
    arch: DetectorConfig = ema.config  # type: ignore[assignment]
    # Rank 0 reads it and tells the others, whose machines may not see its disk.
    stored = load_checkpoint(training.best_path) if ranks.is_first else Checkpoint(arch, {}, ema.state_dict())
    detector, _ = fit_classes(arch, stored.weights, arch.num_classes, str(training.best_path))
    detector.to(ranks.device)
    ranks.same_weights(detector)
    metrics = _validate(training, detector)
    tolerance = REPRODUCTION_TOLERANCE.get(training.stepper.device.type, max(REPRODUCTION_TOLERANCE.values()))
    for name, value in metrics.figures().items():
        if ranks.is_first and not math.isclose(value, stored.figures[name], rel_tol=0, abs_tol=tolerance):
            raise TrainingError(
                f"{training.best_path}: gives {name} {value:.6f} where training measured {stored.figures[name]:.6f}; "
                "do not use this file, and report it with the run folder"
            )
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.figures().items())
    training.reporter.say(f"best epoch {training.best_epoch}, measured again from {training.best_path}: {shown}")
    return metrics


def _report(training: Training, run: Run, metrics: Metrics, rows: Sequence[Mapping[str, float]]) -> None:
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
        rows=rows,
    )
    write_report(report, training.folder)


def _loss_columns(prefix: str, losses: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}_loss": value for name, value in losses.items()}
