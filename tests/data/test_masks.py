"""Masks of batches against the oracle of training pictures, and run-length masks on their way through it."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from data.batches import flatten, make_set
from data.test_augment import EVERYTHING, KINDS, PLAIN
from mamba_yolo.data import Loader, check_dataset, open_dataset
from mamba_yolo.engine.pieces import split
from mamba_yolo.errors import ConfigError, DataError
from mamba_yolo.ops import encode_rle
from reference import augment as oracle


@pytest.fixture(scope="module")
def outlined(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMBA_YOLO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_dataset(make_set(tmp_path_factory.mktemp("set"), segments=True))


@pytest.fixture
def covered(monkeypatch):
    """Let the oracle put (class, polygons pasted above the object) in the place of every class."""
    pasted, maps = [], []
    scene, paste, matrix = oracle.scene, oracle.paste, oracle.matrix

    def watched(r, samples, a, p, base, side, datas):
        image, objects = scene(r, samples, a, p, base, side, datas)
        rings = [oracle.through(maps[-1], ring, p, side) for _, _, found in pasted[-1] for ring in found]
        return image, [(b, (c[1], []) if isinstance(c, tuple) else (c, rings), q) for b, c, q in objects]

    def marked(*args):
        pasted.append(paste(*args))
        return [(box, ("pasted", c), rings) for box, c, rings in pasted[-1]]

    monkeypatch.setattr(oracle, "scene", watched)
    monkeypatch.setattr(oracle, "paste", marked)
    monkeypatch.setattr(oracle, "matrix", lambda *args: maps.append(matrix(*args)) or maps[-1])


def drawn(rings, side):
    """The union of polygons in pixels of the picture, at a quarter of its side."""
    return np.any([np.zeros((side // 4,) * 2, bool), *(oracle.inside(ring / 4, side // 4) for ring in rings)], axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_equal_the_oracle(outlined, covered, kind):
    augment, seen = dataclasses.replace(PLAIN, **KINDS[kind]), 0
    loader = Loader(outlined, 64, 2, seed=5, threads=1, augment=augment, masks=True)
    for epoch in range(3):
        position = 0
        for batch in loader.epoch(epoch):
            assert batch.masks.shape == (len(batch.classes), 16, 16)
            assert batch.masks.dtype == torch.uint8
            for k in range(len(batch.images)):
                _, objects = oracle.picture(outlined, augment, 5, epoch, position, 64)
                position += 1
                for mask, (_, (_, above), rings) in zip(batch.masks[batch.batch_index == k], objects, strict=True):
                    expected = drawn(rings, 64) & ~drawn(above, 64)
                    assert (mask.numpy() != expected).sum() <= 1, (epoch, position)  # a centre on an edge
                    seen += int(expected.sum())
    assert seen > 100


def test_threads_ranks_and_resuming_change_nothing(outlined):
    options = {"imgsz": 64, "batch_size": 2, "seed": 5, "augment": EVERYTHING, "masks": True}
    whole = list(Loader(outlined, threads=1, **options).epoch(1))
    assert all(batch.masks.any() for batch in whole)
    for threads in (2, 7):
        assert flatten(Loader(outlined, threads=threads, **options).epoch(1)) == flatten(whole)
    ranks = [Loader(outlined, rank=r, world_size=2, **options).epoch(1) for r in (0, 1)]
    turns = [batch for turn in itertools.zip_longest(*ranks) for batch in turn if batch is not None]
    assert flatten(turns) == flatten(whole)
    rest = Loader(outlined, **options)
    rest.load_state_dict({**rest.state_dict(), "epoch": 1, "position": 2})
    assert flatten(rest.epoch(1)) == flatten(whole[1:])
    without = list(Loader(outlined, **{**options, "masks": False}).epoch(1))
    assert all(batch.masks is None for batch in without)
    assert flatten(without) == flatten(batch._replace(masks=None) for batch in whole)


def test_a_batch_that_is_held_keeps_its_masks(outlined):
    loader = Loader(outlined, 64, 1, threads=1, augment=EVERYTHING, masks=True)
    first = next(loader.epoch(0))
    before = first.masks.clone()
    for epoch in (1, 2, 3):
        assert sum(len(batch.masks) for batch in loader.epoch(epoch))
    assert torch.equal(first.masks, before)


def test_pieces_have_the_masks_of_their_images(outlined):
    batch = next(Loader(outlined, 64, 5, augment=EVERYTHING, masks=True).epoch(0))
    pieces = split(batch, 3)
    assert [len(p.masks) for p in pieces] == [len(p.classes) for p in pieces]
    order = torch.argsort(batch.batch_index, stable=True)
    assert torch.equal(torch.cat([p.masks for p in pieces]), batch.masks[order])


def make_coco(folder, masks, *, crowd=(), boxes_only=(), size=None):
    """One picture of the size of the masks (n, H, W), with run-length masks in COCO JSON; returns the file."""
    height, width = size or masks.shape[1:]
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / "a.png")
    annotations = []
    for i, mask in enumerate(torch.as_tensor(masks)):
        ys, xs = (v.tolist() for v in mask.nonzero(as_tuple=True))
        box = [min(xs), min(ys), max(xs) + 1 - min(xs), max(ys) + 1 - min(ys)]
        row = {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(i in crowd)}
        annotations.append(row if i in boxes_only else row | {"segmentation": encode_rle(mask)})
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


@pytest.fixture
def odd_masks():
    """A ring, two parts over it, one that the border cuts, one with a box only, and a crowd."""
    masks = torch.zeros(5, 64, 64, dtype=torch.uint8)
    masks[0, 4:40, 4:40], masks[0, 14:30, 14:30] = 1, 0
    masks[1, 10:20, 8:20], masks[1, 50:60, 40:50] = 1, 1
    masks[2, 30:50, 44:64] = 1
    masks[3, 50:60, 5:20] = 1
    masks[4, 0:64, 20:50] = 1
    return masks


@pytest.mark.parametrize("flips", [{}, {"fliplr": 1.0, "flipud": 1.0}])
def test_run_length_masks_with_holes_parts_and_overlaps(tmp_path, odd_masks, flips):
    dataset = open_dataset(make_coco(tmp_path, odd_masks, crowd=(4,), boxes_only=(3,)))
    augment = dataclasses.replace(PLAIN, **flips)
    batch = next(Loader(dataset, 64, augment=augment, masks=True).epoch(0))
    expected = odd_masks[:4].clone()  # the crowd is no target
    expected[3] = 0
    # a centre lies on the corner of four pixels of the picture, and belongs to the last of them
    expected = expected.flip(1, 2)[:, 2::4, 2::4] if flips else expected[:, 2::4, 2::4]
    assert torch.equal(batch.masks, expected)


def eroded(mask):
    """Cells (h, w) whose eight neighbours are set too, which at the border they are not."""
    outside = 1 - torch.nn.functional.pad(mask[None].float(), (1, 1, 1, 1))
    return torch.nn.functional.max_pool2d(outside, 3, 1)[0] == 0


def test_masks_stay_on_their_objects_while_others_are_cut_or_vanish(tmp_path):
    """A ring and a corner, bright on black, through everything that moves pixels."""
    shapes = torch.zeros(2, 64, 64, dtype=torch.uint8)
    shapes[0, 12:60, 12:60], shapes[0, 28:44, 28:44] = 1, 0
    shapes[1, :8, :8] = 1
    dataset = open_dataset(make_coco(tmp_path, shapes))
    Image.fromarray((shapes.amax(0) * 250)[..., None].repeat(1, 1, 3).numpy()).save(tmp_path / "a.png")
    moves = {"mosaic": 0.7, "degrees": 30.0, "shear": 10.0, "translate": 0.3, "scale": 0.6, "flipud": 0.5}
    loader = Loader(dataset, 128, augment=dataclasses.replace(PLAIN, **moves), masks=True, threads=1)
    found, bright, covered = [], 0, 0
    for epoch in range(40):
        batch = next(loader.epoch(epoch))
        assert len(batch.masks) == len(batch.classes)
        found.append(len(batch.masks))
        blocks = torch.nn.functional.avg_pool2d(batch.images[0].float().mean(0)[None], 4)[0]
        for mask, (_, _, w, h) in zip(batch.masks, batch.boxes_cxcywh_norm * 32, strict=True):
            assert mask.any() or min(w, h) < 2  # a sliver may lie between the centres of cells
            assert (blocks[eroded(mask)] > 240).all()
        union = torch.cat([batch.masks, torch.zeros(1, 32, 32, dtype=torch.uint8)]).amax(0) > 0
        bright, covered = bright + int((blocks > 200).sum()), covered + int((union & (blocks > 200)).sum())
    assert {1, 2} <= set(found)
    assert max(found) > 2
    assert covered > 0.97 * bright > 1000


def test_what_a_pasted_object_hides_is_not_part_of_a_mask(tmp_path):
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 10:30, 0:20] = masks[1, 10:30, 20:52] = 1
    dataset = open_dataset(make_coco(tmp_path, masks))
    batch = next(Loader(dataset, 64, augment=dataclasses.replace(PLAIN, copy_paste=1.0), masks=True).epoch(0))
    pasted = masks[0].flip(1)  # the other one's mirror image would lie on itself
    expected = torch.stack([masks[0], masks[1] & ~pasted, pasted])
    assert torch.equal(batch.masks, expected[:, 2::4, 2::4])
    assert (expected[1] != masks[1]).any()


@pytest.mark.parametrize("rect", [False, True])
def test_validation_masks_follow_the_letterbox(tmp_path, odd_masks, rect):
    dataset = open_dataset(make_coco(tmp_path, odd_masks[:3, :32]))
    batch = next(Loader(dataset, 64, train=False, rect=rect, masks=True).epoch(0))
    gain, left, top = batch.letterbox[0].int().tolist()
    assert (gain, top) == (1, 16)
    expected = torch.zeros(3, *(side // 4 for side in batch.images.shape[2:]), dtype=torch.uint8)
    expected[:, top // 4 : top // 4 + 8, left // 4 : left // 4 + 16] = odd_masks[:3, 2:32:4, 2::4]
    assert torch.equal(batch.masks, expected)


def test_masks_that_do_not_fit_are_reported(tmp_path, odd_masks):
    dataset = open_dataset(make_coco(tmp_path, odd_masks, size=(64, 60)))
    assert not any(dataset[0].segments)
    assert sum(p.what == "its mask is 64x64, the picture 60x64" for p in dataset.problems) == 5
    path = make_coco(tmp_path, odd_masks)
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": [3]}
    content["annotations"][1]["segmentation"] = {"counts": "abc"}
    path.write_text(json.dumps(content))
    dataset = open_dataset(path)
    assert [len(parts) for parts in dataset[0].segments] == [0, 0, 1, 1, 1]
    assert [p.done for p in dataset.problems] == ["kept its box alone"] * 2


def test_check_counts_masks_and_says_where_some_are_missing(tmp_path, odd_masks):
    path = make_coco(tmp_path, odd_masks, crowd=(4,), boxes_only=(3,))
    report = check_dataset(path)
    assert {key: report.splits["train"][key] for key in ("boxes", "masks", "crowd")} == {
        "boxes": 4,
        "masks": 3,
        "crowd": 1,
    }
    line = f"{path}: 3 of 4 objects of train have a mask; a -seg model learns masks from those alone"
    assert line in report.warnings
    make_coco(tmp_path, odd_masks, crowd=(4,), boxes_only=range(4))
    assert check_dataset(path).splits["train"]["masks"] == 0
    assert not any("have a mask" in line for line in check_dataset(path).warnings)


def test_masks_that_cannot_be_are_refused(tmp_path, outlined):
    boxes = open_dataset(make_set(tmp_path, segments=False))
    with pytest.raises(DataError, match="has boxes only, and a -seg model learns from masks"):
        Loader(boxes, 64, masks=True)
    with pytest.raises(ConfigError, match="a hook cannot change masks"):
        Loader(outlined, 64, masks=True, hook=lambda *picture: picture)
