"""Loaders in processes of their own, ours and peers' with the same settings, and what a picture takes them."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from typing import TYPE_CHECKING

from mamba_yolo.data import AugmentConfig
from timing import Process

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = 1024
ROUNDS = 2
SETTLE_S = 2.0  # after an epoch loaders fill their queues for the next one, beside which nobody else is to be measured


def loading(
    who: str,
    data: Path,
    *,
    threads: int,
    kind: str = "train",
    cache: str = "off",
    exactly: bool = False,
    augment: AugmentConfig = AugmentConfig(),  # noqa: B008  (frozen)
) -> Process:
    """A process of `alone/loading.py`; a peer without workers gets one thread, with workers one for each."""
    settings = dataclasses.asdict(augment)
    del settings["multi_scale"]
    options = json.dumps({"kind": kind, "threads": threads, "cache": cache, "exactly": exactly, "augment": settings})
    cores = "1" if who != "ours" else str(threads)
    return Process("loading", who, data, options, MAMBA_YOLO_CACHE=str(data.parent / "cache"), OMP_NUM_THREADS=cores)


def per_picture(made: dict[str, Process], clock: str, most_decodes: float = math.inf) -> dict[str, float]:
    """Milliseconds per picture by the clock "wall" or "processor", the best of rounds in which all take their turn.

    By the wall clock it is an epoch after another, as in training: else what waited in queues would cost nothing.
    """
    question = "epoch" if clock == "processor" else "second_epoch"
    for process in made.values():
        assert process.ask("warm") > 0
    found: dict[str, list[float]] = {name: [] for name in made}
    decodes: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, process in made.items():
            time.sleep(SETTLE_S)
            epoch = process.ask(question)
            assert epoch["images"] == PICTURES, name
            decodes[name] = epoch["decoded"] / PICTURES
            found[name].append(epoch[clock] * 1e3 / PICTURES)
    assert decodes["ours"] <= most_decodes
    print("\ndecoded per picture:", *(f"{name} {times:.2f}" for name, times in decodes.items()))
    return {name: min(values) for name, values in found.items()}
