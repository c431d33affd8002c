"""The loader's promises: bytes by (seed, epoch, position) alone, boxes where the objects are, clean ends."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import reference
from data.batches import flatten, loader
from mamba_yolo.data import AugmentConfig, ImageError, Loader, letterbox, open_dataset
from mamba_yolo.errors import ConfigError

PLAIN = AugmentConfig(hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0, flipud=0, mosaic=0)


@pytest.mark.parametrize("train", [True, False])
def test_bytes_do_not_depend_on_threads_or_batch_size(yolo_set, train):
    base = flatten(loader(yolo_set, train=train).epoch(3))
    assert len(base) == 6
    for options in ({"threads": 2}, {"threads": 7}, {"batch_size": 1}, {"batch_size": 4}, {"batch_size": 16}):
        assert flatten(loader(yolo_set, train=train, **options).epoch(3)) == base, options


def test_epochs_and_seeds_differ_and_repeat(yolo_set):
    one = loader(yolo_set)
    first = flatten(one.epoch(0))
    assert first != flatten(one.epoch(1))
    assert first == flatten(one.epoch(0))
    assert first != flatten(loader(yolo_set, seed=1).epoch(0))
    assert first == flatten(loader(yolo_set, seed=0).epoch(0))


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_resuming_at_every_batch_gives_the_rest(yolo_set, after):
    whole = list(loader(yolo_set).epoch(1))
    first = loader(yolo_set)
    run = first.epoch(1)
    for _ in range(after):
        next(run)
    state = first.state_dict() if after else {**first.state_dict(), "epoch": 1}
    second = loader(yolo_set)
    second.load_state_dict(state)
    assert flatten(second.epoch(1)) == flatten(whole[after:])
    assert flatten(second.epoch(1)) == flatten(whole)
    with pytest.raises(ConfigError, match="schema"):
        second.load_state_dict({"schema": 99})


def test_two_iterators_and_kept_batches(yolo_set):
    one = loader(yolo_set)
    base = flatten(one.epoch(0))
    a, b = one.epoch(0), one.epoch(0)
    kept = [batch for pair in zip(a, b, strict=True) for batch in pair]
    for _ in one.epoch(1):
        pass
    assert flatten(kept[0::2]) == base
    assert flatten(kept[1::2]) == base


def loader_threads():
    """Threads of this process that belong to a loader (Linux keeps 15 characters of a name)."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            count += (task / "comm").read_text().startswith("mamba-yolo-load")
    return count


def wait_for(condition):
    """Whether it comes true within five seconds."""
    deadline = time.time() + 5
    while not condition() and time.time() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads through /proc")
def test_a_stream_that_waits_for_a_block_stops(yolo_set):
    one = loader(yolo_set, threads=3)
    stream = one._pipeline().start(*one._what(0, 0, one._ranges())[1:], lends=True)
    assert wait_for(lambda: loader_threads() > 0)
    stream.stop()
    with pytest.raises(ValueError, match="stopped"):
        stream.lend(np.zeros(stream.most_values(), np.uint8))
    assert wait_for(lambda: loader_threads() == 0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads through /proc")
def test_early_break_stops_the_threads(yolo_set):
    run = loader(yolo_set, batch_size=1, threads=3).epoch(0)
    next(run)
    run.close()
    assert wait_for(lambda: loader_threads() == 0)


@pytest.mark.parametrize("cache", ["off", "ram"])
@pytest.mark.parametrize("side", [64, 160])
def test_validation_letterboxes_in_order(yolo_set, side, cache):
    """Smaller and larger: as predict does, and as tiles of training are loaded."""
    dataset = open_dataset(yolo_set)
    batches = list(Loader(dataset, imgsz=side, batch_size=4, train=False, threads=2, cache=cache).epoch(0))
    assert [len(b.images) for b in batches] == [4, 2]
    images = torch.cat([b.images for b in batches])
    assert images.dtype == torch.uint8
    assert torch.cat([b.sample_index for b in batches]).tolist() == list(range(6))
    for i, sample in enumerate(dataset):
        expected, (gain, left, top) = reference.letterbox(np.asarray(Image.open(sample.path)), side, side, True)
        batch = batches[i // 4]
        assert np.abs(images[i].numpy() - expected).max() <= 1
        assert np.array_equal(images[i], letterbox(np.asarray(Image.open(sample.path)), side, side)[0])
        assert batch.letterbox[i % 4].tolist() == pytest.approx([gain, left, top])
        cx, cy, w, h = (batch.boxes_cxcywh_norm[batch.batch_index == i % 4] * side).T.numpy()
        corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        back = (corners - [left, top, left, top]) / gain
        np.testing.assert_allclose(back, sample.boxes_xyxy, atol=1e-3)
        assert batch.classes[batch.batch_index == i % 4].tolist() == sample.classes.tolist()


def square_set(tmp_path, count=1, side=64):
    """Grey pictures, each with a bright square and its box."""
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "labels/train").mkdir(parents=True)
    for i in range(count):
        pixels = np.full((side, side, 3), 20, np.uint8)
        pixels[16:40, 24:56] = 250
        Image.fromarray(pixels).save(tmp_path / f"images/train/{i}.png")
        (tmp_path / f"labels/train/{i}.txt").write_text("0 0.625 0.4375 0.5 0.375\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [square]\n")
    return tmp_path / "data.yaml"


def test_without_augmentation_a_training_picture_is_the_file(tmp_path):
    one = loader(square_set(tmp_path), augment=PLAIN)
    [batch] = one.epoch(0)
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), np.asarray(Image.open(one.dataset[0].path)))
    assert batch.boxes_cxcywh_norm.tolist() == [[0.625, 0.4375, 0.5, 0.375]]
    assert batch.letterbox.isnan().all()


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_follow_the_pixels_through_every_augmentation(tmp_path, mosaic):
    augment = dataclasses.replace(AugmentConfig(), hsv_h=0, hsv_s=0, hsv_v=0, flipud=0.5, mosaic=mosaic)
    one = loader(square_set(tmp_path, 4), augment=augment, imgsz=128, batch_size=4)
    boxes = 0
    for number in range(8):
        for batch in one.epoch(number):
            for box, k in zip(batch.boxes_cxcywh_norm.numpy() * 128, batch.batch_index.tolist(), strict=True):
                cx, cy, w, h = box
                x1, x2 = max(int(cx - w / 2) + 3, 0), int(cx + w / 2) - 2
                y1, y2 = max(int(cy - h / 2) + 3, 0), int(cy + h / 2) - 2
                inside = batch.images[k, :, y1:y2, x1:x2].float()
                if inside.numel():
                    assert inside.mean() > 240
                    boxes += 1
    assert boxes > 20
    bright = torch.cat([b.images for b in one.epoch(0)]) > 200
    assert bright.any()


def test_colours_equal_the_standard_library(tmp_path):
    path = square_set(tmp_path)
    pixels = np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/train/0.png")
    colour = dataclasses.replace(PLAIN, hsv_h=0.3, hsv_s=0.7, hsv_v=0.4)
    [batch] = loader(path, augment=colour).epoch(0)
    ours = batch.images[0].permute(1, 2, 0).numpy().reshape(-1, 3)[:200].astype(float)
    flat = pixels.reshape(-1, 3)[:200]
    value = np.median(ours.max(1)[ours.max(1) < 250] / flat.max(1)[ours.max(1) < 250])
    hsv = [(h, s) for h in np.linspace(-0.3, 0.3, 121) for s in np.linspace(0.3, 1.7, 57)]
    best = min(np.abs([reference.shift_hsv(p, h, s, value) for p in flat[:12]] - ours[:12]).max() for h, s in hsv)
    assert best < 6


def test_crowds_are_left_out_and_background_is_kept(yolo_set):
    dataset = open_dataset(yolo_set)
    sample = dataset[1]
    dataset._samples = list(dataset)
    dataset._samples[1] = sample._replace(is_crowd=np.array([True, False]))
    (yolo_set.parent / "labels/train/train0.txt").unlink()
    batches = list(Loader(dataset, imgsz=64, train=False, threads=1).epoch(0))
    assert (batches[0].batch_index == 1).sum() == 1
    dataset = open_dataset(yolo_set)
    assert len(dataset[0].classes) == 0
    assert len(dataset) == 6


def test_a_file_that_vanishes_is_named(yolo_set):
    one = loader(yolo_set, threads=2)
    one.dataset[3].path.unlink()
    with pytest.raises(ImageError, match=r"train3\.png"):
        list(one.epoch(0))


def test_bad_options(yolo_set):
    for options, match in (
        ({"imgsz": 100}, "multiple of 32"),
        ({"batch_size": 0}, "batch_size"),
        ({"threads": -1}, "threads"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ConfigError, match=match):
            loader(yolo_set, **options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (3, 5)])
def test_tiny_and_extreme_pictures(tmp_path, shape):
    path = square_set(tmp_path)
    Image.fromarray(np.full((*shape, 3), 90, np.uint8)).save(tmp_path / "images/train/0.png")
    for train in (True, False):
        [batch] = loader(path, train=train).epoch(0)
        assert batch.images.shape == (1, 3, 64, 64)


def test_ctrl_c_is_heard_while_waiting(tmp_path):
    path = square_set(tmp_path, 40, 1500)
    code = f"""
from mamba_yolo.data import Loader, open_dataset
loader = Loader(open_dataset({str(path)!r}), imgsz=1280, batch_size=40, threads=1)
print("ready", flush=True)
list(loader.epoch(0))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        started = time.time()
        _, errors = process.communicate(timeout=20)
    assert time.time() - started < 5
    assert b"KeyboardInterrupt" in errors
