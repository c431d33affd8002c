"""The user's hook: what it gets, what it may return, what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.errors import ConfigError


def epoch(path, hook, **options):
    return list(Loader(open_dataset(path), 64, 4, threads=2, hook=hook, **options).epoch(0))


def test_a_hook_gets_the_finished_picture_and_changes_it(yolo_set):
    plain = epoch(yolo_set, None)
    calls = []

    def invert(image, boxes, classes):
        calls.append((image.shape, image.dtype, boxes.dtype, threading.current_thread()))
        image[:] = 255 - image
        return image, boxes[:1], classes[:1] + 1

    changed = epoch(yolo_set, invert)
    assert {*calls} == {((64, 64, 3), np.dtype("uint8"), np.dtype("float32"), threading.current_thread())}
    for a, b in zip(plain, changed, strict=True):
        assert (a.images + b.images == 255).all()
        first = [(a.batch_index == k).nonzero()[0].item() for k in range(len(a.images)) if (a.batch_index == k).any()]
        np.testing.assert_allclose(b.boxes_cxcywh_norm, a.boxes_cxcywh_norm[first], atol=1e-6)
        assert b.classes.tolist() == (a.classes[first] + 1).tolist()
        assert b.batch_index.tolist() == a.batch_index[first].tolist()


def test_a_hook_gets_bytes_where_the_batch_is_of_floats(yolo_set):
    for a, b in zip(epoch(yolo_set, None), epoch(yolo_set, lambda *parts: parts, dtype="float32"), strict=True):
        assert (b.images == a.images / 255).all()


def test_no_boxes_and_boxes_unchanged(yolo_set):
    plain, same = epoch(yolo_set, None), epoch(yolo_set, lambda *parts: parts)
    for a, b in zip(plain, same, strict=True):
        assert (a.images == b.images).all()
        np.testing.assert_allclose(a.boxes_cxcywh_norm, b.boxes_cxcywh_norm, atol=1e-6)
    empty = epoch(yolo_set, lambda image, boxes, classes: (image, [], []))
    assert sum(len(b.classes) for b in empty) == 0


def test_validation_is_left_alone(yolo_set):
    def never(*_):
        raise AssertionError

    assert len(epoch(yolo_set, never, train=False)) == 2


@pytest.mark.parametrize(
    ("hook", "match"),
    [
        (lambda i, b, c: None, r"must return \(image, boxes, classes\), got NoneType"),
        (lambda i, b, c: (i[:8], b, c), r"uint8 image of shape \(64, 64, 3\)"),
        (lambda i, b, c: (i / 255, b, c), "got float64"),
        (lambda i, b, c: (i, [[0, 0, 5, 5]], []), r"boxes \(n, 4\) and classes \(n,\)"),
        (lambda i, b, c: (i, [[0, 0, 65, 5]], [0]), "inside the image; clip its boxes"),
        (lambda i, b, c: (i, [[5, 0, 4, float("nan")]], [0]), "clip its boxes"),
    ],
)
def test_what_a_hook_returns_is_checked(yolo_set, hook, match):
    with pytest.raises(ConfigError, match=match):
        epoch(yolo_set, hook)
