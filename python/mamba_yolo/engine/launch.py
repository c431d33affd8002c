"""`device=0,1`: training in one process per device, on this machine, started by torchrun's own agent.

The options go into a file, this module runs once per device, and the first error of any process is the error of the
call. Test: tests/engine/test_launch.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_yolo import errors
from mamba_yolo.config import AUTO_BATCH, TrainConfig, from_flat, to_dict
from mamba_yolo.engine.checkpoint import Checkpoint, load_model, save
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.outcome import TrainResult, read_result, write_result
from mamba_yolo.engine.ranks import place_of_process, start_processes
from mamba_yolo.errors import ConfigError, MambaYoloError, RankLostError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.models.detector import Detector

JOB, START, RESULT = "job.json", "start.safetensors", "result.json"
EXIT_INTERRUPTED = 130


def needs_launch(devices: str) -> bool:
    """Whether several devices are asked for and nobody has started a process for each."""
    return "," in devices and place_of_process().world_size == 1


def launch(
    config: TrainConfig,
    *,
    model: Detector | None,
    names: Mapping[int, str] | None,
    callbacks: Sequence[Callback],
    hook: Any,
) -> TrainResult:
    """Train as `train` does, in a process per device.

    Raises:
        ConfigError: a device named twice, a batch that cannot be shared, or a hook or callback, which stay behind.
        MambaYoloError: what the first process to fail raised.
        TrainingError: a process ended without a word.
    """
    devices = config.device.split(",")
    _check(config, devices, stays_behind=bool(callbacks) or hook is not None)
    with tempfile.TemporaryDirectory(prefix="mamba-yolo-") as made:
        folder = Path(made)
        job = {"config": to_dict(config), "names": None if names is None else {str(k): v for k, v in names.items()}}
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        if model is not None:
            numbers = {i: str(i) for i in range(model.config.num_classes)}
            save(folder / START, Checkpoint(model.config, dict(names or numbers), model.state_dict()))
        ended = start_processes(len(devices), __name__, str(folder))
        if ended is None:
            return read_result(folder / RESULT)
        raise _first_error(folder) or TrainingError(
            f"{ended}; the other ranks were stopped. The last saved checkpoint is untouched: go on with --resume"
        )


def _check(config: TrainConfig, devices: list[str], *, stays_behind: bool) -> None:
    """Refuse before any process starts."""
    indices = [pick_device(name).index for name in devices if name != "cpu"]
    if len(indices) not in (0, len(devices)) or len(set(indices)) < len(indices):
        raise ConfigError(f"device={config.device}: name each GPU once, or cpu once per process")
    if config.batch != AUTO_BATCH and config.batch % len(devices):
        raise ConfigError(
            f"batch={config.batch} cannot be shared by the {len(devices)} processes of device={config.device}; "
            "it counts the images of all: take a multiple"
        )
    if stays_behind:
        raise ConfigError(
            f"device={config.device} trains in other processes, which know no hook or callback of this one; "
            "name a callback by its import path, start your own script with torchrun, or name one device"
        )


def _first_error(folder: Path) -> Exception | None:
    """What the first process to fail said; those that only lost it come last."""
    said = [json.loads(f.read_text(encoding="utf-8")) for f in folder.glob("error-*.json")]
    said.sort(key=lambda e: (e["type"] == RankLostError.__name__, e["time"]))
    if not said:
        return None
    kind = getattr(errors, said[0]["type"], None)
    error: Exception = kind(said[0]["text"]) if kind else TrainingError(said[0]["text"])
    error.__cause__ = RuntimeError(said[0]["trace"])  # for --debug
    return error


def main(folder: Path) -> int:
    """One process of a job: train; returns the exit code."""
    from mamba_yolo.engine.train import train  # which imports this module

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    config, names = from_flat(TrainConfig, job["config"]), job["names"]
    place = place_of_process()
    try:
        model = load_model(folder / START).detector if (folder / START).is_file() else None
        result = train(config, model=model, names=None if names is None else {int(k): v for k, v in names.items()})
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the caller raises it)
        known = isinstance(error, MambaYoloError)
        text = str(error) if known else f"rank {place.rank}: unexpected {type(error).__name__}: {error}"
        said = {"type": type(error).__name__ if known else "", "text": text, "time": time.time()}
        said["trace"] = traceback.format_exc()
        (folder / f"error-{place.rank}.json").write_text(json.dumps(said), encoding="utf-8")
        return 1
    if place.rank == 0:
        write_result(folder / RESULT, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
