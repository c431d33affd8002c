"""A detector to start a run from: a preset, or trained weights whose class outputs go to the classes of the same name.

Test: tests/engine/test_finetune.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from mamba_yolo.engine.checkpoint import fit_classes, load_weights
from mamba_yolo.engine.packaged import weights_file
from mamba_yolo.models.presets import build_detector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.progress import Reporter
    from mamba_yolo.models.detector import Detector

CLASS_OUTPUTS = re.compile(r"head\.class_branches\.\d+\.2\.(weight|bias)")  # rows by class


def starting_model(
    config: TrainConfig,
    model: Detector | None,
    names: Mapping[int, str] | None,
    data_names: Mapping[int, str],
    reporter: Reporter,
) -> Detector:
    """The given detector, or that of `config.model`, with the classes of the data.

    Args:
        config: names the model and how a preset starts.
        model: taken instead, if given.
        names: its classes, if they are known.
        data_names: classes of the data set.
        reporter: is told what starts at random.
    """
    file = weights_file(config.model)
    if model is None and file is None:
        start = config.initialization
        return build_detector(config.model, len(data_names), config.variant, initialization=start).eval()
    if model is None:
        assert file is not None
        stored = load_weights(file)
        arch, weights, names = stored.arch, stored.weights, stored.names
    else:
        arch, weights = model.config, model.state_dict()
    detector, at_random = fit_classes(arch, weights, len(data_names), config.model if model is None else "model")
    if names is None or dict(names) == dict(data_names):
        _say_at_random(at_random, [], reporter)
        return detector
    taken = take_classes(detector, weights, names, data_names)
    _say_at_random(at_random or ["class outputs"], taken, reporter)
    return detector


def take_classes(
    detector: Detector, weights: Mapping[str, Tensor], names: Mapping[int, str], data_names: Mapping[int, str]
) -> list[str]:
    """Give every class of the data the outputs of the class of the same name, and random ones to all others.

    Args:
        detector: for the classes of the data, all other weights in place.
        weights: of the old detector.
        names: its classes.
        data_names: classes of the data set.

    Returns:
        Names that were found; none where the class branches have another width, which leaves nothing to take.
    """
    old_row = {name.casefold(): row for row, name in names.items()}
    rows = {new: old_row[name.casefold()] for new, name in data_names.items() if name.casefold() in old_row}
    fresh = type(detector)(detector.config).state_dict()
    own = detector.state_dict()
    outputs = [key for key in own if CLASS_OUTPUTS.fullmatch(key)]
    if any(own[key].shape[1:] != weights[key].shape[1:] for key in outputs):
        return []
    with torch.no_grad():
        for key in outputs:
            own[key].copy_(fresh[key])
            for new, old in rows.items():
                own[key][new] = weights[key][old]
    return [data_names[new] for new in rows]


def _say_at_random(layers: list[str], taken: list[str], reporter: Reporter) -> None:
    if not layers:
        return
    by_name = f"; by name: {', '.join(taken)}" if taken else ""
    reporter.say(f"other classes: {len(layers)} class layers of the head start at random, all else is taken{by_name}")
