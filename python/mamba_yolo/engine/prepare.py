"""What stands before the first batch of a run: data, detector, optimizer, run folder, or all of it read back.

Test: tests/engine/test_train.py, tests/engine/test_resume.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.engine.callbacks import Run
from mamba_yolo.engine.checkpoint import fit_classes, load_model
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.ema import Ema
from mamba_yolo.engine.norms import NormMomentum
from mamba_yolo.engine.optim import Plan, build_optimizer, make_plan
from mamba_yolo.engine.recorder import Recorder
from mamba_yolo.engine.report import box_labels
from mamba_yolo.engine.resume import find_checkpoint, restore, resumed_config
from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.engine.schedule import ema_tau
from mamba_yolo.engine.step import Stepper, choose_precision
from mamba_yolo.errors import CheckpointError, DataError, NotYetError
from mamba_yolo.losses.detection import DetectionLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.data import Dataset, Hook
    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.engine.progress import Reporter
    from mamba_yolo.models.detector import Detector


@dataclass
class Training:
    """A run in progress.

    Attributes:
        epoch: finished epochs that are safe on the disk.
        best_fitness: of the best epoch so far.
        best_epoch: its number from 1; 0 before the first validation.
        seconds: time spent on epochs so far.
    """

    config: TrainConfig
    folder: Path
    names: dict[int, str]
    train_set: Dataset
    loader: Loader
    val_loader: Loader
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
        """Averaged weights of the best epoch."""
        return self.folder / "weights" / "best.safetensors"

    @property
    def last_path(self) -> Path:
        """Everything a resume needs."""
        return self.folder / "weights" / "last.safetensors"

    def tell(self, hook: Callable[[Callback], None]) -> None:
        """Call every listener."""
        for callback in self.callbacks:
            hook(callback)


def start(
    config: TrainConfig,
    model: Detector | None,
    names: Mapping[int, str] | None,
    reporter: Reporter,
    callbacks: Sequence[Callback],
    hook: Hook | None,
) -> Training:
    """Prepare a new run; arguments as in `train`."""
    device = pick_device(config.device)
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    _check_boxes(train_set, config)
    torch.manual_seed(config.seed)
    detector = _starting_model(config, model, names, train_set.names, reporter)
    if detector.config.task == "segment":
        raise NotYetError("training of masks is not in this version; train a detector, such as model=mamba-yolo-t")
    detector.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    folder = new_run_folder(config.project, config.name)
    loaders = _loaders(config, (train_set, val_set), hook)
    return _assemble(config, folder, detector, loaders, reporter=reporter, callbacks=callbacks, epoch=0)


def resume(config: TrainConfig, reporter: Reporter, callbacks: Sequence[Callback], hook: Hook | None) -> Training:
    """Read a run back from its last checkpoint."""
    path, checkpoint = find_checkpoint(config)
    state = checkpoint.resume
    assert state is not None  # find_checkpoint saw to it
    config = resumed_config(config, state, path)
    device = pick_device(config.device)
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    if train_set.names != checkpoint.names:
        raise CheckpointError(f"{path}: the classes of {config.data} are not those of this run; start a new one")
    detector, _ = fit_classes(checkpoint.arch, checkpoint.weights, checkpoint.arch.num_classes, str(path))
    detector.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    folder, loaders = path.resolve().parent.parent, _loaders(config, (train_set, val_set), hook)
    training = _assemble(config, folder, detector, loaders, reporter=reporter, callbacks=callbacks, epoch=state.epoch)
    restore(training.stepper, checkpoint, state)
    training.loader.load_state_dict(state.loader)
    training.best_fitness, training.best_epoch = state.best_fitness, state.best_epoch
    training.seconds = state.seconds
    reporter.say(f"resuming {folder} after epoch {state.epoch}")
    return training


def describe_run(training: Training) -> Run:
    """Labels of the training split, as fractions of their images."""
    boxes, classes = box_labels(training.train_set)
    return Run(training.folder, training.config, training.names, boxes, classes, training.epoch)


def _loaders(config: TrainConfig, sets: tuple[Dataset, Dataset], hook: Hook | None) -> tuple[Loader, Loader]:
    """Of training and of validation, as `mamba-yolo val` loads it."""
    train = Loader(
        sets[0],
        config.imgsz,
        config.batch,
        seed=config.seed,
        threads=config.workers,
        augment=config.augment,
        close_epoch=max(config.epochs - config.close_mosaic, 0),
        hook=hook,
        cache=config.cache,
    )
    val = Loader(sets[1], config.imgsz, config.batch, train=False, threads=config.workers, cache=config.cache)
    return train, val


def _assemble(
    config: TrainConfig,
    folder: Path,
    detector: Detector,
    loaders: tuple[Loader, Loader],
    *,
    reporter: Reporter,
    callbacks: Sequence[Callback],
    epoch: int,
) -> Training:
    """Plan, stepper and recorder around a detector that is on its device."""
    loader, val_loader = loaders
    train_set = loader.dataset
    device = next(detector.parameters()).device
    plan = make_plan(config, len(loader), len(train_set.names))
    stepper = Stepper(
        model=detector,
        criterion=DetectionLoss(len(train_set.names), detector.strides, config.box, config.cls, config.dfl),
        optimizer=build_optimizer(detector, plan),
        ema=Ema(detector, config.ema, ema_tau(plan.steps)),
        norms=NormMomentum(detector, config.epochs * len(loader)),
        precision=choose_precision(device, config.amp),
        device=device,
        clip=config.clip,
    )
    recorder = Recorder(folder, config, epoch)
    reporter.say(
        f"{len(train_set)} training and {len(val_loader.dataset)} validation images, {len(train_set.names)} classes, "
        f"{device}"
    )
    reporter.say(plan.describe())
    return Training(
        config, folder, train_set.names, train_set, *loaders, plan, stepper, recorder, reporter, callbacks, epoch
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


def _check_boxes(train_set: Dataset, config: TrainConfig) -> None:
    if not any(len(train_set[i].boxes_xyxy) for i in range(len(train_set))):
        raise DataError(
            f"{config.data}: no boxes in its {len(train_set)} training images; look at it with `mamba-yolo check`"
        )
