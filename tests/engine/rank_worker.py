"""What the processes of the rank tests run: `rank_worker.py JOB FOLDER [option=value …]`, with stand-ins of `tiny`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine import tiny
from mamba_yolo.cli.console import complain
from mamba_yolo.engine import checkpoint, prepare
from mamba_yolo.engine import train as train_module
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.errors import MambaYoloError

RANK = int(os.environ.get("RANK", "0"))


class At(Callback):
    """Does something after an epoch."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def on_epoch_end(self, epoch, row, metrics):
        if epoch == self.epoch:
            self.act()


class Detector(tiny.TinyDetector):
    """Without dropout, of which every rank draws its own."""

    def __init__(self, config):
        super().__init__(config)
        self.stem[3].p = 0.0


def run(folder, options, callbacks=()):
    config = tiny.tiny_config(folder, **options)
    return train_module.train(config, model=tiny.tiny_detector(), callbacks=callbacks)


def straight(folder, options):
    result = run(folder, options)
    weights = torch.cat([p.flatten() for p in detector_of_rank().parameters()])
    state = {"epochs": result.epochs, "best": result.best_epoch, "map50": result.best_metrics.map50}
    (folder / f"rank{RANK}.json").write_text(json.dumps({**state, "weights": weights.tolist()}))


def detector_of_rank():
    """The trained network of this process."""
    return trained[-1].stepper.model


trained = []


def killed_once(folder, options):
    """Rank 1 is killed in its second epoch, in the first life."""
    real = train_module._train_epoch

    def dies(training, epoch):
        if epoch == 2 and RANK == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(training, epoch)

    train_module._train_epoch = dies
    straight(folder, options)


def fails(folder, options):
    """The loss of rank 1 is not a number in the third step."""

    class Breaks(tiny.TinyLoss):
        calls = 0

        def __call__(self, raw, *targets):
            parts = super().__call__(raw, *targets)
            Breaks.calls += raw.levels[0].requires_grad
            bad = float("nan") if Breaks.calls == 3 and RANK == 1 else 1.0
            return parts._replace(total=parts.total * bad, box=parts.box * bad)

    prepare.DetectionLoss = Breaks
    run(folder, options)


def interrupted(folder, options):
    """Ctrl-C reaches rank 0 alone after the second epoch."""

    def stop():
        raise KeyboardInterrupt

    run(folder, options, [At(2, stop)])


def stops_early(folder, options):
    """Figures that fall: patience ends the run."""
    real, falling = train_module.validate, iter([0.3, 0.2, 0.1, 0.3, 0.3])

    def validate(*args, **kwargs):
        metrics = real(*args, **kwargs)
        metrics.coco["AP"] = metrics.coco["AP50"] = next(falling)
        return metrics

    train_module.validate = validate
    straight(folder, options)


if __name__ == "__main__":
    tiny.install(setattr)
    checkpoint.Detector = Detector
    assemble = prepare._assemble
    prepare._assemble = lambda *a, **k: trained.append(assemble(*a, **k)) or trained[-1]
    job, target, *words = sys.argv[1:]
    Path(target).mkdir(parents=True, exist_ok=True)
    try:
        globals()[job](Path(target), {k: yaml.safe_load(v) for k, v in (w.split("=") for w in words)})
    except KeyboardInterrupt:
        sys.exit(130)
    except MambaYoloError as error:
        complain(f"error of rank {RANK}: {error}")
        sys.exit(1)
