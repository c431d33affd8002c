"""Train every row of the ablation table once per seed, in one folder that can be gone on with.

A run is finished when its result.json is there; what is half trained goes on from its last checkpoint, and what has
none starts anew. settings.json says what all runs share: asking for something else is an error, because the rows could
no longer be compared. Test: tests/engine/test_ablation.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mamba_yolo.config import to_dict
from mamba_yolo.data import open_dataset
from mamba_yolo.engine.checkpoint import load_header
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.resume import FREE
from mamba_yolo.engine.safefile import write_text
from mamba_yolo.engine.train import train
from mamba_yolo.errors import ConfigError, SaveError
from mamba_yolo.models.ablation import ABLATION, Row, row_config
from mamba_yolo.models.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mamba_yolo.config import DetectorConfig, TrainConfig
    from mamba_yolo.data import Dataset
    from mamba_yolo.engine.checkpoint import ResumeState

SETTINGS, RESULT = "settings.json", "result.json"
OWN = {"seed", *FREE} - {"model"}  # options that runs of one folder need not share
SECONDS_PER_MINUTE = 60


class Measured(NamedTuple):
    """One row trained with one seed: figures of the best epoch on the validation split."""

    row: str
    seed: int
    map50_95: float
    map50: float
    best_epoch: int
    epochs: int
    minutes: float


def run_rows(
    config: TrainConfig,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    progress: Reporter | None = None,
    finished: Callable[[Path], object] = lambda folder: None,
) -> Path:
    """Train what is not trained yet and return the folder, project/name.

    Args:
        config: options that all runs share; its seed is not used.
        rows: of the table.
        seeds: each row is trained once with each.
        progress: where to report; standard error if left out.
        finished: is told the folder at the start and after every run.

    Raises:
        ConfigError: the folder holds runs with other options, or of another network under the same name.
        whatever `train` raises; finished runs stay.
    """
    reporter, folder = progress or Reporter(), Path(config.project) / config.name
    train_set = open_dataset(config.data, split="train")
    networks = {row.name: row_config(row, config.model, len(train_set.names)) for row in rows}
    _keep_settings(folder, config, train_set)
    finished(folder)
    todo = [(row, seed) for seed in seeds for row in rows]  # one seed of all rows first: a table that fills evenly
    with _told_when_interrupted(folder, reporter):
        for number, (row, seed) in enumerate(todo, 1):
            run, arch = folder / f"{row.name}-seed{seed}", networks[row.name]
            if not _is_finished(run, arch):
                reporter.say(f"run {number} of {len(todo)}: {row.name}, seed {seed}")
                own = dataclasses.replace(config, project=str(folder), name=run.name, seed=seed)
                _train(own, arch, run, reporter)
                _write_result(run, row, seed)
                finished(folder)
    return folder


def measured(folder: Path) -> list[Measured]:
    """All finished runs of a folder, in the order of the table."""
    order = {row.name: i for i, row in enumerate(ABLATION)}
    found = [Measured(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob(f"*/{RESULT}")]
    return sorted((m for m in found if m.row in order), key=lambda m: (order[m.row], m.seed))


@contextlib.contextmanager
def _told_when_interrupted(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Say on Ctrl-C what is there, and that nothing more is needed to go on."""
    try:
        yield
    except KeyboardInterrupt:
        reporter.say(f"finished runs in {folder}: {len(measured(folder))}; the same command goes on")
        raise


def _keep_settings(folder: Path, config: TrainConfig, train_set: Dataset) -> None:
    """Write what all runs share, or compare it with what those of the folder had."""
    asked, path = _shared(config, train_set), folder / SETTINGS
    if path.is_file() and any(folder.glob("*/weights/*.safetensors")):
        for name, old in json.loads(path.read_text(encoding="utf-8")).items():
            if name in asked and asked[name] != old:
                raise ConfigError(
                    f"{folder}: its runs have {name} {old}, this one would have {asked[name]}, and their figures could "
                    "not be compared; go back to that, or give another name=... for new runs"
                )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"cannot make {folder}: {error}; choose another --project") from error
    write_text(path, json.dumps(asked, indent=1) + "\n")


def _shared(config: TrainConfig, train_set: Dataset) -> dict[str, Any]:
    """As plain values, as they come back from JSON."""
    options = to_dict(config)
    options |= options.pop("augment")
    data = {
        "data": str(Path(config.data).resolve()),
        "training images": len(train_set),
        "classes": [*train_set.names.values()],
    }
    kept = {name: value for name, value in {**options, **data}.items() if name not in OWN}
    shared: dict[str, Any] = json.loads(json.dumps(kept))
    return shared


def _is_finished(run: Path, arch: DetectorConfig) -> bool:
    """Whether a run has a result; what it has so far must be of the network that is asked for."""
    for path in filter(Path.is_file, (_last(run), _best(run))):
        found = load_header(path).arch
        if found != arch:
            changed = [f.name for f in dataclasses.fields(arch) if getattr(found, f.name) != getattr(arch, f.name)]
            raise ConfigError(
                f"{run}: of a network with other {', '.join(changed)}; give another name=... for new runs"
            )
    return (run / RESULT).is_file()


def _train(config: TrainConfig, arch: DetectorConfig, run: Path, reporter: Reporter) -> None:
    """Start a run, or go on with it; nothing is left to do when it was stopped just before its result."""
    last = _last(run)
    if not last.is_file():
        shutil.rmtree(run, ignore_errors=True)  # stopped before its first epoch was safe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            detector = Detector(arch)
        train(config, model=detector, progress=reporter)
    elif _state(last).epoch < config.epochs:
        train(dataclasses.replace(config, resume=True, model=str(last)), progress=reporter)


def _write_result(run: Path, row: Row, seed: int) -> None:
    """The figures of the best file: training has measured them again from it."""
    figures, state = load_header(_best(run)).figures, _state(_last(run))
    minutes = round(state.seconds / SECONDS_PER_MINUTE, 2)
    done = Measured(row.name, seed, figures["map50_95"], figures["map50"], state.best_epoch, state.epoch, minutes)
    write_text(run / RESULT, json.dumps(done._asdict()) + "\n")


def _state(last: Path) -> ResumeState:
    state = load_header(last).resume
    assert state is not None  # of a last.safetensors
    return state


def _last(run: Path) -> Path:
    return run / "weights" / "last.safetensors"


def _best(run: Path) -> Path:
    return run / "weights" / "best.safetensors"
