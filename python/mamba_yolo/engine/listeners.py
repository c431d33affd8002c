"""Callbacks by name: the three trackers, or a class of the user's own by its import path.

A path is imported only when the user wrote it in this very command or call: a checkpoint or args.yaml that holds one
imports nothing. Test: tests/engine/test_listeners.py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.loggers import Logger
from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mamba_yolo.engine.progress import Reporter

TRACKERS = {
    "tensorboard": "mamba_yolo.engine.loggers.tensorboard:TensorBoard",
    "wandb": "mamba_yolo.engine.loggers.wandb:WandB",
    "mlflow": "mamba_yolo.engine.loggers.mlflow:MLflow",
}


def make_callbacks(names: Iterable[str], reporter: Reporter) -> list[Callback]:
    """Callbacks by name, in order.

    Args:
        names: trackers, or `package.module:Class` of a `Callback` that needs no arguments.
        reporter: where trackers say that they failed.

    Raises:
        ConfigError: a name that leads to no such class.
    """
    return [_make(name, TRACKERS.get(name, name), reporter) for name in names]


def _make(name: str, path: str, reporter: Reporter) -> Callback:
    module, colon, member = path.partition(":")
    if not (module and colon and member):
        raise ConfigError(f"callbacks: {name!r} is none of {', '.join(TRACKERS)}, and not package.module:Class")
    try:
        found = getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"callbacks: cannot import {name!r}: {error}; is its folder on PYTHONPATH?") from error
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise ConfigError(f"callbacks: {name!r} is no subclass of mamba_yolo.engine.callbacks.Callback")
    return found(reporter) if issubclass(found, Logger) else found()
