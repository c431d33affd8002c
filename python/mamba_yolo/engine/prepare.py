"""What stands before the first batch of a run: data, detector, optimizer, run folder, or all of it read back.

Test: tests/engine/test_train.py, tests/engine/test_resume.py.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.engine.autobatch import chosen_batch
from mamba_yolo.engine.callbacks import Run
from mamba_yolo.engine.checkpoint import fit_classes
from mamba_yolo.engine.ema import Ema
from mamba_yolo.engine.finetune import starting_model
from mamba_yolo.engine.freeze import freeze
from mamba_yolo.engine.norms import NormMomentum
from mamba_yolo.engine.optim import Plan, build_optimizer, make_plan
from mamba_yolo.engine.recorder import Recorder
from mamba_yolo.engine.report import box_labels
from mamba_yolo.engine.resume import find_checkpoint, restore, resumed_config
from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.engine.schedule import ema_tau
from mamba_yolo.engine.step import Stepper, choose_precision
from mamba_yolo.engine.syncnorm import synchronise_norms
from mamba_yolo.engine.writer import Writer
from mamba_yolo.errors import CheckpointError, DataError
from mamba_yolo.losses.detection import DetectionLoss, rarity_weights
from mamba_yolo.losses.segmentation import SegmentationLoss, loss_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mamba_yolo.config import Task, TrainConfig
    from mamba_yolo.data import Dataset, Hook
    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.engine.progress import Reporter
    from mamba_yolo.engine.ranks import Ranks
    from mamba_yolo.models.detector import Detector


@dataclass
class Training:
    """A run in progress.

    Attributes:
        recorder: of rank 0; others write nothing.
        epoch: finished epochs that are safe on the disk.
        best_fitness: of the best epoch so far.
        best_epoch: its number from 1; 0 before the first validation.
        seconds: time spent on epochs so far.
        writer: brings checkpoints to the disk.
    """

    config: TrainConfig
    folder: Path
    names: dict[int, str]
    train_set: Dataset
    loader: Loader
    val_loader: Loader
    plan: Plan
    stepper: Stepper
    recorder: Recorder | None
    reporter: Reporter
    callbacks: Sequence[Callback]
    epoch: int = 0
    best_fitness: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    writer: Writer = field(default_factory=Writer)

    @property
    def ranks(self) -> Ranks:
        """The processes of this run."""
        return self.stepper.ranks

    @property
    def task(self) -> Task:
        """Boxes alone, or masks too."""
        return self.stepper.ema.module.config.task  # type: ignore[union-attr,return-value]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, each shared by all ranks."""
        return self.plan.schedule.batches_per_epoch

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
    ranks: Ranks,
) -> Training:
    """Prepare a new run; arguments as in `train`."""
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    _check_boxes(train_set, config)
    torch.manual_seed(config.seed)
    detector = starting_model(config, model, names, train_set.names, reporter)
    detector.to(device=ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = dataclasses.replace(config, batch=chosen_batch(config, detector, len(train_set), reporter, ranks))
    loaders = _loaders(config, (train_set, val_set), hook, ranks, masks=detector.config.task == "segment")
    folder = Path(ranks.same_text(str(new_run_folder(config.project, config.name)) if ranks.is_first else ""))
    return _assemble(config, folder, detector, loaders, reporter=reporter, callbacks=callbacks, epoch=0, ranks=ranks)


def resume(
    config: TrainConfig, reporter: Reporter, callbacks: Sequence[Callback], hook: Hook | None, ranks: Ranks
) -> Training:
    """Read a run back from its last checkpoint, with any number of ranks."""
    path, checkpoint = find_checkpoint(config)
    state = checkpoint.resume
    assert state is not None  # find_checkpoint saw to it
    config = resumed_config(config, state, path)
    train_set, val_set = open_dataset(config.data, split="train"), open_dataset(config.data, split="val")
    if train_set.names != checkpoint.names:
        raise CheckpointError(f"{path}: the classes of {config.data} are not those of this run; start a new one")
    if state.images not in (0, len(train_set)):
        raise CheckpointError(
            f"{path}: this run trains on {state.images} images, {config.data} has {len(train_set)} now; bring them "
            f"back, or start a new run with --model {path}"
        )
    detector, _ = fit_classes(checkpoint.arch, checkpoint.weights, checkpoint.arch.num_classes, str(path))
    detector.to(device=ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loaders = _loaders(config, (train_set, val_set), hook, ranks, masks=detector.config.task == "segment")
    folder = path.resolve().parent.parent
    training = _assemble(
        config, folder, detector, loaders, reporter=reporter, callbacks=callbacks, epoch=state.epoch, ranks=ranks
    )
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


def _loaders(
    config: TrainConfig, sets: tuple[Dataset, Dataset], hook: Hook | None, ranks: Ranks, *, masks: bool
) -> tuple[Loader, Loader]:
    """Of training and of validation, as `mamba-yolo val` loads it; each rank its share of every batch."""
    batch, pins = ranks.share_of(config.batch), ranks.device.type == "cuda"
    train = Loader(
        sets[0],
        config.imgsz,
        batch,
        seed=config.seed,
        threads=config.workers,
        augment=config.augment,
        close_epoch=max(config.epochs - config.close_mosaic, 0),
        hook=hook,
        cache=config.cache,
        partners=config.partners,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pin_memory=pins,
        masks=masks,
    )
    val = Loader(
        sets[1],
        config.imgsz,
        batch,
        train=False,
        threads=config.workers,
        cache=config.cache,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pin_memory=pins,
        masks=masks,
    )
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
    ranks: Ranks,
) -> Training:
    """Plan, stepper and recorder around a detector that is on its device."""
    loader, val_loader = loaders
    train_set = loader.dataset
    device, batches = next(detector.parameters()).device, math.ceil(len(train_set) / config.batch)
    freeze(detector, config.freeze)
    plan = make_plan(config, batches)
    ranks.same_weights(detector)
    ema = Ema(detector, config.ema, ema_tau(plan.steps))
    if config.sync_bn and ranks.world_size > 1:
        synchronise_norms(detector, ranks)
    stepper = Stepper(
        model=detector,
        criterion=_criterion(config, detector, train_set),
        optimizer=build_optimizer(detector, plan),
        ema=ema,
        norms=NormMomentum(detector, short_run=plan.is_short),
        precision=choose_precision(device, config.amp, config.amp_dtype),
        device=device,
        clip=config.clip,
        say=reporter.say,
        ranks=ranks,
    )
    recorder = Recorder(folder, config, epoch, detector.config.task) if ranks.is_first else None
    reporter.say(
        f"{len(train_set)} training and {len(val_loader.dataset)} validation images, {len(train_set.names)} classes, "
        f"{device}{f', {ranks.world_size} ranks' if ranks.world_size > 1 else ''}"
    )
    reporter.say(plan.describe())
    return Training(
        config, folder, train_set.names, train_set, *loaders, plan, stepper, recorder, reporter, callbacks, epoch
    )


def _criterion(config: TrainConfig, detector: Detector, train_set: Dataset) -> DetectionLoss | SegmentationLoss:
    weights = None
    if config.class_weights:
        _, classes = box_labels(train_set)
        counts = torch.bincount(torch.from_numpy(classes), minlength=len(train_set.names))
        weights = rarity_weights(counts, config.class_weights)
    loss = DetectionLoss(len(train_set.names), detector.strides, config.box, config.cls, config.dfl, weights)
    return loss_of(detector.config.task, loss)


def _check_boxes(train_set: Dataset, config: TrainConfig) -> None:
    if not any(len(train_set[i].boxes_xyxy) for i in range(len(train_set))):
        raise DataError(
            f"{config.data}: no boxes in its {len(train_set)} training images; look at it with `mamba-yolo check`"
        )
