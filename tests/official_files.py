"""Checkpoints in the official form: torch pickles modules whose classes are made up here under official names."""

from __future__ import annotations

import io
import sys
import types
from contextlib import contextmanager

import torch
from torch import nn

MODULE = "ultralytics.nn.tasks"


@contextmanager
def classes_under_official_names():
    """DetectionModel, SegmentationModel and Part, importable while pickling and gone afterwards."""
    home = types.ModuleType(MODULE)
    for name in ("DetectionModel", "SegmentationModel", "Part"):
        setattr(home, name, type(name, (nn.Module,), {"__module__": MODULE}))
    made = {"ultralytics": types.ModuleType("ultralytics"), "ultralytics.nn": types.ModuleType("nn"), MODULE: home}
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield home
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def module_graph(home, state, names, task="detect"):
    """A graph of modules whose state dict is `state`, in half precision, with class names."""
    root = (home.DetectionModel if task == "detect" else home.SegmentationModel)()
    for key, tensor in state.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, home.Part())
            module = module._modules[part]
        if name.startswith(("running", "num_batches")):
            module.register_buffer(name, tensor.clone())
        else:
            module.register_parameter(name, nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point()))
    root.names = names
    return root.half()


def official_bytes(state, names, task="detect", *, ema=None, change=lambda root: None, **rest):
    """A checkpoint file: weights under "model", others under "ema" where given, `rest` beside them."""
    with classes_under_official_names() as home:
        model = module_graph(home, state, names, task)
        change(model)
        averaged = None if ema is None else module_graph(home, ema, names, task)
        stream = io.BytesIO()
        torch.save({"epoch": -1, "model": model, "ema": averaged, **rest}, stream)
    return stream.getvalue()
