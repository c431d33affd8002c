"""Resuming, ranks and workers: whatever way an epoch is cut, its batches are those of one loader."""

from __future__ import annotations

import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from data.batches import flatten, loader
from mamba_yolo.data import AugmentConfig, Loader, open_dataset
from mamba_yolo.errors import ConfigError


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("train", [True, False])
def test_ranks_share_the_batches_of_one_loader_in_turn(yolo_set, world, train):
    whole = list(loader(yolo_set, train=train).epoch(2))
    ranks = [loader(yolo_set, train=train, rank=r, world_size=world) for r in range(world)]
    parts = [list(one.epoch(2)) for one in ranks]
    assert [len(part) for part in parts] == [len(one) for one in ranks]
    turns = [batch for turn in itertools.zip_longest(*parts) for batch in turn if batch is not None]
    assert flatten(turns) == flatten(whole)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 7),
    after=st.integers(0, 6),
    world=st.integers(1, 3),
    world_after=st.integers(1, 3),
    threads=st.sampled_from([1, 2, 7]),
    train=st.booleans(),
)
def test_any_stop_and_any_number_of_ranks_after_it_give_the_rest(
    yolo_set, batch_size, after, world, world_after, threads, train
):
    options = {"batch_size": batch_size, "train": train}
    whole = flatten(loader(yolo_set, **options).epoch(1))
    first = loader(yolo_set, world_size=world, threads=threads, **options)
    first.load_state_dict({**first.state_dict(), "epoch": 1})
    taken = list(itertools.islice(first.epoch(1), after))
    state = pickle.loads(pickle.dumps(first.state_dict()))
    if not taken:
        state["epoch"], state["position"] = 1, 0
    elif len(taken) < after:
        return  # the epoch was over
    rest = [loader(yolo_set, rank=r, world_size=world_after, **options) for r in range(world_after)]
    for one in rest:
        one.load_state_dict(state)
    turns = itertools.zip_longest(*(one.epoch(1) for one in rest))
    got = flatten(batch for turn in turns for batch in turn if batch is not None)
    assert got == whole[min(len(taken) * world * batch_size, len(whole)) :]


def test_epochs_follow_each_other_with_threads_sent_ahead(yolo_set):
    one = loader(yolo_set)
    fresh = [flatten(loader(yolo_set).epoch(e)) for e in range(3)]
    assert [flatten(one.epoch(e)) for e in range(3)] == fresh
    one.augment = plain = AugmentConfig(mosaic=0.0)
    assert flatten(one.epoch(3)) == flatten(loader(yolo_set, augment=plain).epoch(3))
    assert flatten(one.epoch(5)) == flatten(loader(yolo_set, augment=plain).epoch(5))
    again = loader(yolo_set)
    assert [flatten(again), flatten(again)] == fresh[:2]
    again.set_epoch(0)
    assert flatten(again) == fresh[0]


def test_the_next_epoch_is_loaded_by_the_same_threads_while_this_one_ends(yolo_set):
    one = loader(yolo_set)
    run = one.epoch(0)
    for _ in range(len(one)):
        next(run)  # not asked for more: nobody has to notice the end
    [stream] = one._ahead.values()
    decoded = one._pipeline().num_decoded()
    second = one.epoch(1)
    got = flatten([next(second)])
    assert one._ahead == {}
    assert got + flatten(second) == flatten(loader(yolo_set).epoch(1))
    assert next(iter(one._ahead.values())) is stream
    assert one._pipeline().num_decoded() == decoded == 6


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_mosaics_close_at_an_epoch_wherever_the_run_starts(yolo_set, first):
    still = AugmentConfig(mosaic=1.0, mixup=0.5, multi_scale=True)
    alone = AugmentConfig(mosaic=0.0, multi_scale=True)
    one = loader(yolo_set, augment=still, close_epoch=2)
    for number in range(first, 4):
        expected = loader(yolo_set, augment=alone if number >= 2 else still)
        assert flatten(one.epoch(number)) == flatten(expected.epoch(number)), number


@pytest.mark.parametrize("world", [1, 3, 5])
def test_ranks_follow_each_other_through_epochs_even_without_batches(yolo_set, world):
    ranks = [loader(yolo_set, rank=r, world_size=world) for r in range(world)]
    for number in range(3):
        turns = itertools.zip_longest(*(one.epoch(number) for one in ranks))
        got = flatten(batch for turn in turns for batch in turn if batch is not None)
        assert got == flatten(loader(yolo_set).epoch(number))


def test_two_threads_take_two_epochs_from_one_loader(yolo_set):
    one, expected = loader(yolo_set), [flatten(loader(yolo_set).epoch(e)) for e in range(4)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            assert list(pool.map(lambda e: flatten(one.epoch(e)), range(4))) == expected


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_torch_dataloader_gives_the_same_batches(yolo_set, workers):
    one = loader(yolo_set)
    one.set_epoch(4)
    assert flatten(DataLoader(one, batch_size=None, num_workers=workers)) == flatten(loader(yolo_set).epoch(4))


def test_a_loader_can_be_sent_to_another_process(yolo_set):
    one = pickle.loads(pickle.dumps(loader(yolo_set)))
    assert flatten(one.epoch(1)) == flatten(loader(yolo_set).epoch(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on_with_threads_of_its_own(yolo_set):
    expected = flatten(loader(yolo_set).epoch(0))
    one = loader(yolo_set)
    run = one.epoch(0)
    first = flatten([next(run)])
    child = os.fork()
    if child == 0:
        same = first + flatten(run) == expected and flatten(one.epoch(0)) == expected
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert first + flatten(run) == expected


def test_floats_are_the_bytes_divided_by_255(yolo_set):
    for train in (True, False):
        bytes_, floats = (loader(yolo_set, train=train, dtype=d).epoch(0) for d in ("uint8", "float32"))
        for a, b in zip(bytes_, floats, strict=True):
            assert b.images.dtype == torch.float32
            torch.testing.assert_close(b.images, a.images.float() / 255, rtol=0, atol=0)


def test_pinning_without_cuda_changes_nothing(yolo_set):
    if torch.cuda.is_available():
        assert next(loader(yolo_set, pin_memory=True).epoch(0)).images.is_pinned()
    assert flatten(loader(yolo_set, pin_memory=True).epoch(0)) == flatten(loader(yolo_set).epoch(0))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "kind", [{}, {"augment": AugmentConfig(multi_scale=True)}, {"train": False}, {"train": False, "rect": True}]
)
def test_blocks_that_are_lent_hold_the_same_batches_and_none_is_written_twice(yolo_set, monkeypatch, kind, dtype):
    expected = [flatten(loader(yolo_set, dtype=dtype, **kind).epoch(e)) for e in range(3)]
    lent = []

    def unpinned(self, num_values, dtype):
        lent.append(torch.full((num_values,), 7, dtype=dtype))
        return lent[-1]

    monkeypatch.setattr(Loader, "_pins", True)
    monkeypatch.setattr(Loader, "_empty", unpinned)
    one = loader(yolo_set, dtype=dtype, threads=2, pin_memory=True, **kind)
    epochs = [list(one.epoch(e)) for e in range(3)]  # all batches are held to the end
    assert [flatten(batches) for batches in epochs] == expected
    blocks = {block.data_ptr() for block in lent}
    places = [batch.images.data_ptr() for batches in epochs for batch in batches]
    assert len(set(places)) == len(places)
    assert blocks.issuperset(places)


def test_blocks_of_another_kind_or_too_small_are_refused(yolo_set):
    one = loader(yolo_set)
    start = lambda **options: one._pipeline().start(*one._what(0, 0, one._ranges())[1:], **options)  # noqa: E731
    with pytest.raises(ValueError, match="takes no such slot"):
        start(lends=False).lend(np.zeros(10**6, np.uint8))
    stream = start(lends=True)
    with pytest.raises(ValueError, match="takes no such slot"):
        stream.lend(np.zeros(10**6, np.float32))
    frozen = np.zeros(10**6, np.uint8)
    frozen.flags.writeable = False
    for block in (np.zeros(10**6, np.int16), np.zeros((2, 10**5), np.uint8), np.zeros(10**6, np.uint8)[::2], frozen):
        with pytest.raises(ValueError, match="a slot must be a flat, contiguous, writable array"):
            stream.lend(block)
    stream.lend(np.zeros(stream.most_values() - 1, np.uint8))
    with pytest.raises(ValueError, match=r"a slot of \d+ values cannot hold a batch of \d+"):
        stream.next()


def test_uniform_partners_come_from_the_whole_epoch_and_want_a_cache(yolo_set):
    with pytest.raises(ConfigError, match=r"uniform.*cache"):
        loader(yolo_set, partners="uniform")
    one, two = (loader(yolo_set, partners="uniform", cache=cache, threads=t) for cache, t in (("ram", 1), ("disk", 3)))
    assert flatten(one.epoch(1)) == flatten(two.epoch(1)) != flatten(loader(yolo_set).epoch(1))
    assert one._pipeline().num_decoded() == 6


def shapes_set(folder, shapes):
    """Pictures of these (height, width), each with one box in the middle."""
    (folder / "images/train").mkdir(parents=True)
    (folder / "labels/train").mkdir(parents=True)
    for i, shape in enumerate(shapes):
        Image.fromarray(np.full((*shape, 3), 10 * i, np.uint8)).save(folder / f"images/train/{i}.png")
        (folder / f"labels/train/{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("train: images/train\nnames: [square]\n")
    return folder / "data.yaml"


def test_rectangular_batches_are_sorted_and_as_small_as_their_pictures(tmp_path):
    shapes = [(128, 64), (64, 128), (100, 100), (50, 128), (128, 100), (300, 150)]
    dataset = open_dataset(shapes_set(tmp_path, shapes))
    options = {"imgsz": 128, "batch_size": 2, "train": False, "threads": 2}
    batches = list(Loader(dataset, rect=True, **options).epoch(0))
    ratios = [h / w for h, w in shapes]
    order = sorted(range(6), key=lambda i: ratios[i])
    assert torch.cat([b.sample_index for b in batches]).tolist() == order
    # ceil(aspect * 128 / 32 + 0.5) * 32, the longer side 1
    assert [tuple(b.images.shape[2:]) for b in batches] == [(96, 160), (160, 160), (160, 96)]
    for batch in batches:
        height, width = batch.images.shape[2:]
        for k, sample in enumerate(batch.sample_index.tolist()):
            gain, left, top = batch.letterbox[k].tolist()
            assert gain == pytest.approx(128 / max(shapes[sample]))
            cx, cy, w, h = (batch.boxes_cxcywh_norm[k] * torch.tensor([width, height, width, height])).tolist()
            original = dataset[sample].boxes_xyxy[0]
            back = [(cx - w / 2 - left) / gain, (cy - h / 2 - top) / gain]
            assert back == pytest.approx(original[:2].tolist(), abs=0.01)
            inside = batch.images[k, :, int(cy - h / 2) + 1 : int(cy + h / 2), int(cx - w / 2) + 1 : int(cx + w / 2)]
            assert (inside == 10 * sample).all()
            assert (batch.images[k, :, 0, 0] == 114).all()
    with pytest.raises(ConfigError, match="rect is for validation"):
        Loader(dataset, rect=True)


def test_bad_choices(yolo_set):
    for options, match in (
        ({"cache": "tape"}, "cache must be one of False, off, ram, disk, got 'tape'"),
        ({"dtype": "int8"}, "dtype must be one of uint8, float32"),
        ({"on_error": "ignore"}, "on_error must be one of raise, skip"),
        ({"rank": 2, "world_size": 2}, "rank must be between 0 and 1"),
        ({"world_size": 0}, "world_size"),
    ):
        with pytest.raises(ConfigError, match=match):
            loader(yolo_set, **options)
