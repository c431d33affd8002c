"""Weights files: safetensors with JSON in their metadata; nothing is unpickled or imported by name.

Tensors under plain names are the averaged weights, what predicts. `last.safetensors` adds everything that a bit-exact
resume needs under `resume/`: raw weights, optimizer state, random states. Files are replaced atomically.
Test: tests/engine/test_checkpoint.py.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mamba_yolo import __version__
from mamba_yolo.config import DetectorConfig, from_flat, to_dict
from mamba_yolo.engine.packaged import weights_file
from mamba_yolo.engine.safefile import write_atomic
from mamba_yolo.errors import CheckpointError, ConfigError, MissingFileError
from mamba_yolo.models.detector import Detector
from mamba_yolo.models.official import config_from_official, convert_state_dict, read_checkpoint
from mamba_yolo.models.presets import VARIANTS, build_detector

if TYPE_CHECKING:
    from torch import Tensor

    from mamba_yolo.config import Task, Variant

FORMAT, SCHEMA = "mamba-yolo", "1"
DEFAULT_CLASSES, DEFAULT_IMGSZ = 80, 640  # of a preset
MODEL, OPTIMIZER, RANDOM = "resume/model/", "resume/optimizer/", "resume/random/"


@dataclass(frozen=True)
class ResumeState:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        model: raw weights.
        optimizer: state per parameter, in the order of the parameter groups.
        random: states of torch's generators, by device.
        scaler: state of the float16 loss scaler; empty where it is not used.
        loader: state of the data loader.
        config: the run's options.
        epoch: finished epochs.
        step: batches seen.
        ema_updates: updates of the averaged weights.
        best_fitness: of the best epoch so far.
        best_epoch: its number, from 1; 0 before the first validation.
        seconds: time spent so far.
        pieces: in how many a batch is computed since memory ran out.
        images: of the training split; 0 in files of earlier versions.
    """

    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    random: dict[str, Tensor]
    scaler: dict[str, Any]
    loader: dict[str, Any]
    config: dict[str, Any]
    epoch: int
    step: int
    ema_updates: int
    best_fitness: float
    best_epoch: int
    seconds: float
    pieces: int = 1
    images: int = 0


# What of a ResumeState is plain JSON; the rest is tensors.
PLAIN = tuple(f.name for f in dataclasses.fields(ResumeState) if f.name not in ("model", "optimizer", "random"))


@dataclass(frozen=True)
class Checkpoint:
    """A weights file in memory.

    Attributes:
        arch: shape of the network.
        names: class names.
        weights: averaged weights by name.
        imgsz: side of the training images in pixels.
        training_set: what it was trained on.
        figures: validation figures of these weights.
        license: of the weights; whoever publishes them decides.
        version: of the package that wrote it.
        card: what users of the weights should know, in Markdown; empty unless somebody wrote it.
        resume: present in `last.safetensors` only.
    """

    arch: DetectorConfig
    names: dict[int, str]
    weights: dict[str, Tensor]
    imgsz: int = 640
    training_set: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    license: str = "unspecified"
    version: str = __version__
    card: str = ""
    resume: ResumeState | None = None


class LoadedModel(NamedTuple):
    """A detector ready to use.

    Attributes:
        detector: in eval mode.
        names: class names; numbers as text for a preset.
        task: detect or segment.
        imgsz: side of the images it was trained on.
        not_taken: layers that were left at random because the number of classes differs.
    """

    detector: Detector
    names: dict[int, str]
    task: Task
    imgsz: int
    not_taken: list[str]


class Snapshot(NamedTuple):
    """The content of a checkpoint as it was at one moment: training may go on while it is written."""

    tensors: dict[str, Tensor]
    text: dict[str, str]

    def write(self, path: Path) -> None:
        """Replace `path`; a failure leaves the previous file in place and is a SaveError."""
        write_atomic(path, lambda temporary: save_file(self.tensors, temporary, metadata=self.text))


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a failure leaves the previous file in place.

    Raises:
        SaveError: full disk, missing permission.
    """
    snapshot(checkpoint).write(Path(path))


def snapshot(checkpoint: Checkpoint) -> Snapshot:
    """Copy everything of a checkpoint to the CPU, ready to be written."""
    tensors = dict(checkpoint.weights)
    metadata = {
        "arch": to_dict(checkpoint.arch),
        "names": {str(number): name for number, name in checkpoint.names.items()},
        "task": checkpoint.arch.task,
        **{k: getattr(checkpoint, k) for k in ("imgsz", "training_set", "figures", "license", "version", "card")},
    }
    if checkpoint.resume is not None:
        metadata["resume"] = {name: getattr(checkpoint.resume, name) for name in PLAIN}
        tensors |= _resume_tensors(checkpoint.resume)
    # Equal storages (a tensor saved twice) are refused by the format, strided ones too: copies on the CPU are neither.
    ready = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    text = {"format": FORMAT, "schema": SCHEMA, **{key: json.dumps(value) for key, value in metadata.items()}}
    return Snapshot(ready, text)


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint that `save` wrote.

    Raises:
        MissingFileError: no such file.
        CheckpointError: not safetensors, cut short, of another program or of another schema.
    """
    path = Path(path)
    tensors, text = _read(path)
    if text.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file, but not of {FORMAT}; give a file that train wrote, or an official .pt"
        )
    if text.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path}: schema {text.get('schema')}, this version reads {SCHEMA}; use the package that wrote it"
        )
    try:
        return _assemble(tensors, text)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged metadata ({error!r}); use another copy") from error


def load_header(path: Path) -> Checkpoint:
    """What one of our files says about itself, without its tensors."""
    with safe_open(path, framework="pt") as file:
        return _assemble({}, file.metadata())


def saved_epoch(path: Path) -> int:
    """Finished epochs of a `last.safetensors`, without reading its tensors."""
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["resume"])["epoch"])


def load_model(source: str | Path, *, num_classes: int | None = None, variant: Variant | None = None) -> LoadedModel:
    """Build a detector from a preset name, the name of packaged weights, one of our files, or an official .pt.

    Args:
        source: preset (random weights), mamba-yolo-n-bccd (trained), *.safetensors or *.pt.
        num_classes: for another data set: layers whose shape depends on it start at random, all else is taken.
        variant: v1 or v2; a preset takes v1 without it, a file must be what it asks for.

    Raises:
        ConfigError: not a file and not a preset.
        MissingFileError, CheckpointError: see `load`.
    """
    path = weights_file(source)
    if path is None:
        detector = build_detector(str(source), num_classes or DEFAULT_CLASSES, variant or "v1").eval()
        numbers = {i: str(i) for i in range(detector.config.num_classes)}
        return LoadedModel(detector, numbers, detector.config.task, DEFAULT_IMGSZ, [])
    checkpoint = load_weights(path)
    _check_variant(path, checkpoint.arch, variant)
    classes = num_classes or checkpoint.arch.num_classes
    detector, not_taken = fit_classes(checkpoint.arch, checkpoint.weights, classes, str(path))
    names = checkpoint.names if classes == checkpoint.arch.num_classes else {i: str(i) for i in range(classes)}
    return LoadedModel(detector, names, checkpoint.arch.task, checkpoint.imgsz, not_taken)


def load_weights(path: Path) -> Checkpoint:
    """Read one of our weights files or an official .pt; errors as in `load`."""
    return load(path) if path.suffix == ".safetensors" else _official(path)


def fit_classes(
    arch: DetectorConfig, weights: dict[str, Tensor], num_classes: int, origin: str
) -> tuple[Detector, list[str]]:
    """Put weights into a new detector of as many classes, in eval mode.

    Layers whose shape depends on the number of classes start at random; their names are returned.

    Raises:
        CheckpointError: the weights are not those of `arch`; `origin` names them.
    """
    detector = Detector(dataclasses.replace(arch, num_classes=num_classes)).eval()
    own = detector.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    not_taken = [k for k in own if k not in wrong and own[k].shape != weights[k].shape]
    if wrong or (not_taken and num_classes == arch.num_classes):
        raise CheckpointError(f"{origin}: weights do not fit the network they name, e.g. {(wrong + not_taken)[0]!r}")
    detector.load_state_dict({k: own[k] if k in not_taken else weights[k] for k in own})
    return detector, not_taken


def _official(path: Path) -> Checkpoint:
    official = read_checkpoint(path)
    arch = config_from_official(official.state_dict)
    return Checkpoint(arch, official.names, convert_state_dict(official.state_dict), official.imgsz)


def _check_variant(path: Path, arch: DetectorConfig, variant: Variant | None) -> None:
    if variant is not None and dataclasses.replace(arch, **VARIANTS[variant]) != arch:
        raise CheckpointError(f"{path}: not of variant {variant}; leave the variant out to use the file's own")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: a mapped file could not be replaced on Windows.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or cut short ({error}); use another copy") from error


def _assemble(tensors: dict[str, Tensor], text: dict[str, str]) -> Checkpoint:
    metadata = {key: json.loads(value) for key, value in text.items() if key not in ("format", "schema")}
    arch = {k: tuple(v) if isinstance(v, list) else v for k, v in metadata["arch"].items()}
    resume = metadata.get("resume")
    return Checkpoint(
        arch=from_flat(DetectorConfig, arch),
        names={int(number): str(name) for number, name in metadata["names"].items()},
        weights={name: value for name, value in tensors.items() if not name.startswith("resume/")},
        **{k: metadata[k] for k in ("imgsz", "training_set", "figures", "license", "version")},
        card=metadata.get("card", ""),  # files of 0.1.0 have none
        resume=None if resume is None else _resume_state(resume, tensors),
    )


def _resume_tensors(state: ResumeState) -> dict[str, Tensor]:
    optimizer = {f"{OPTIMIZER}{i}/{name}": v for i, values in state.optimizer.items() for name, v in values.items()}
    model = {MODEL + name: value for name, value in state.model.items()}
    return {**model, **optimizer, **{RANDOM + name: value for name, value in state.random.items()}}


def _resume_state(plain: dict[str, Any], tensors: dict[str, Tensor]) -> ResumeState:
    optimizer: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(OPTIMIZER, tensors).items():
        index, name = key.split("/")
        optimizer.setdefault(int(index), {})[name] = value
    return ResumeState(model=_below(MODEL, tensors), optimizer=optimizer, random=_below(RANDOM, tensors), **plain)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
