"""Suppression: Rust gives the rows of the plain definition for any numbers, or both refuse."""

from __future__ import annotations

import torch

from mamba_yolo.errors import MambaYoloError
from mamba_yolo.ops import nms, nms_head, weighted_box_fusion

INF = float("inf")
ODD = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e-20, 1e20, 3e38, -3e38, INF, -INF, 1e7, 1e7 + 1, 5.0, 5.0, 6.0]
BACKENDS = ("rust", "reference")
KINDS = ["hard", "diou", "soft_linear"]  # soft_gaussian: its exp may differ in the last bit, so ranks may


def attempt(rng):
    rng.choice([_boxes, _head])(rng)


def _value(rng):
    return rng.choice(ODD) if rng.random() < 0.1 else rng.uniform(-5, 60)


def _box(rng):
    if rng.random() < 0.2:
        return [_value(rng) for _ in range(4)]
    x, y = _value(rng), _value(rng)
    return [x, y, x + rng.uniform(0, 25), y + rng.uniform(0, 25)]


def _boxes(rng):
    number = rng.choice([0, 1, 2, 5, 17, 40, 40, 1600 if rng.random() < 0.02 else 30])
    boxes = torch.tensor([_box(rng) for _ in range(number)]).reshape(-1, 4).float()
    if number and rng.random() < 0.05:
        boxes[rng.randrange(number), rng.randrange(4)] = float("nan")
    scores = torch.tensor([rng.choice([0.0, -0.0, 0.5, 1.0, -1.0, INF, rng.random()]) for _ in range(number)])
    ids = rng.choice([[4], [0, 1, 2], [0, 1, -(2**63), 2**63 - 1]])
    classes = torch.tensor([rng.choice(ids) for _ in range(number)], dtype=torch.int64) if rng.random() < 0.5 else None
    threshold = rng.choice([0.0, 1.0, 0.5, 0.3, 0.01, rng.random()])
    kind = rng.choice(KINDS[: 2 if number > 1000 else 3])
    options = {"classes": classes, "max_det": rng.choice([None, 0, 1, 3, 1000]), "kind": kind}
    rust, reference = (_answer(nms, boxes, scores, threshold, backend=b, **options) for b in BACKENDS)
    assert rust == reference, (boxes.tolist(), scores.tolist(), threshold, options, rust, reference)
    _answer(weighted_box_fusion, boxes, scores, threshold, classes=classes)
    _answer(nms, boxes, scores, threshold, kind="soft_gaussian", classes=classes)


def _head(rng):
    num_classes, anchors, extra = rng.choice([1, 2, 5]), rng.choice([0, 1, 17, 60]), rng.choice([0, 2])
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    pred = torch.rand(rng.choice([0, 1, 2]), 4 + num_classes + extra, anchors, generator=generator)
    pred[:, :4] *= rng.choice([1, 50, 1e4])
    for _ in range(rng.choice([0, 0, 3]) if pred.numel() else 0):
        pred.view(-1)[rng.randrange(pred.numel())] = rng.choice([*ODD, float("nan")])
    options = {
        "conf_thr": rng.choice([0, 0.3, 0.9, 1]),
        "iou_thr": rng.choice([0.0, 0.5, 0.7, 1.0]),
        "multi_label": rng.random() < 0.5,
        "agnostic": rng.random() < 0.5,
        "compat": rng.random() < 0.5,
        "max_det": rng.choice([0, 1, 5, 300]),
        "num_classes": num_classes,
        "classes": rng.choice([None, [], [0], [1, 77]]),
    }
    rust, reference = (_answer(nms_head, pred, backend=b, **options) for b in BACKENDS)
    assert rust == reference, (pred.tolist(), options, rust, reference)


def _answer(function, *arguments, **options):
    """Plain values that can be compared, or the kind of the refusal."""
    try:
        answer = function(*arguments, **options)
    except MambaYoloError as error:
        return type(error)
    tensors = [answer] if isinstance(answer, torch.Tensor) else answer
    return [tensor.double().nan_to_num(7e77).tolist() for tensor in tensors]
