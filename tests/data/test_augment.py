"""Training pictures against a slow oracle that draws its own numbers and builds the whole canvas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batches import flatten, make_set
from mamba_yolo.data import AugmentConfig, Loader, open_dataset
from mamba_yolo.errors import ConfigError
from reference import augment as oracle

PLAIN = AugmentConfig(hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0, flipud=0, mosaic=0)
KINDS = {
    "zoom": {"scale": 0.5, "translate": 0.2},
    "mosaic": {"mosaic": 1.0, "scale": 0.5, "translate": 0.1},
    "rotation": {"degrees": 40.0},
    "rotated mosaic": {"degrees": 180.0, "mosaic": 1.0, "scale": 0.3},
    "shear": {"shear": 20.0, "mosaic": 0.5},
    "perspective": {"perspective": 0.001, "translate": 0.1, "mosaic": 0.5},
    "flips": {"fliplr": 0.5, "flipud": 0.5, "degrees": 10.0, "mosaic": 0.5},
    "mixup": {"mixup": 1.0, "mosaic": 0.5, "scale": 0.2},
    "cutmix": {"cutmix": 1.0, "mosaic": 0.3, "scale": 0.2},
    "copy-paste": {"copy_paste": 0.7, "mosaic": 0.6, "degrees": 10.0, "fliplr": 0.5, "scale": 0.1},
    "colours": {"hsv_h": 0.3, "hsv_s": 0.7, "hsv_v": 0.4},
    "all": {"degrees": 15.0, "shear": 5.0, "perspective": 5e-4, "scale": 0.4, "translate": 0.1, "fliplr": 0.5,
            "flipud": 0.3, "mosaic": 0.6, "mixup": 0.4, "cutmix": 0.4, "copy_paste": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    made = {
        kind: make_set(tmp_path_factory.mktemp("set"), segments=kind == "polygons") for kind in ("boxes", "polygons")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMBA_YOLO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {kind: open_dataset(path) for kind, path in made.items()}


def pictures(dataset, augment, *, epoch=0, imgsz=64, **options):
    """(planes, boxes in pixels, classes, polygons in pixels) of every position."""
    loader = Loader(dataset, imgsz, augment=augment, **{"threads": 1, "batch_size": 2, "seed": 5, **options})
    for batch in loader.epoch(epoch):
        side = batch.images.shape[-1]
        for k, image in enumerate(batch.images.numpy()):
            mine = (batch.batch_index == k).nonzero().flatten().tolist()
            b = batch.boxes_cxcywh_norm[mine].numpy().astype(float) * side
            boxes = np.stack([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1)
            rings = [[r.numpy() * side for r in batch.segments.of(i)] for i in mine] if batch.segments else None
            yield image, boxes, batch.classes[mine].tolist(), rings


@pytest.mark.parametrize("labels", ["boxes", "polygons"])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_labels_equal_the_oracle(sets, kind, labels):
    dataset, options = sets[labels], dict(KINDS[kind])
    if labels == "boxes":
        options.pop("copy_paste", None)
    augment = dataclasses.replace(PLAIN, **options)
    seen, limit = 0, 5 if augment.hsv_s else 2  # a tile one level apart grows with the saturation
    for epoch in range(3):
        for position, (image, boxes, classes, rings) in enumerate(pictures(dataset, augment, epoch=epoch)):
            planes, objects = oracle.picture(dataset, augment, 5, epoch, position, 64)
            difference = np.abs(image - planes)
            # not all: a pixel centre may lie on the very edge of a pasted polygon
            assert np.quantile(difference, 0.999) <= limit, (epoch, position)
            assert difference.mean() < 0.6
            assert classes == [c for _, c, _ in objects]
            np.testing.assert_allclose(boxes, np.array([b for b, _, _ in objects]).reshape(-1, 2, 2), atol=1e-3)
            if rings is not None:
                for ours, (_, _, theirs) in zip(rings, objects, strict=True):
                    for a, b in zip(ours, theirs, strict=True):
                        np.testing.assert_allclose(a, b, atol=1e-3)
            seen += len(objects)
    assert seen > 5


def test_every_batch_has_its_own_side_and_positions_keep_their_numbers(sets):
    augment = dataclasses.replace(PLAIN, multi_scale=True, degrees=10.0, mosaic=0.5)
    sides = []
    for epoch in range(4):
        for position, (image, boxes, classes, _) in enumerate(pictures(sets["boxes"], augment, epoch=epoch)):
            planes, objects = oracle.picture(sets["boxes"], augment, 5, epoch, position, 64, image.shape[-1])
            assert np.quantile(np.abs(image - planes), 0.999) <= 2
            np.testing.assert_allclose(boxes, np.array([b for b, _, _ in objects]).reshape(-1, 2, 2), atol=1e-3)
            assert classes == [c for _, c, _ in objects]
            sides.append(image.shape[-1])
    assert set(sides) == {32, 64, 96}


def random_configs():
    unit, some = st.floats(0, 1), lambda high: st.floats(0, high)
    return st.builds(
        AugmentConfig, hsv_h=some(0.5), hsv_s=unit, hsv_v=unit, degrees=some(180), translate=unit, scale=some(0.99),
        shear=some(40), perspective=some(0.001), fliplr=unit, flipud=unit, mosaic=unit, mixup=some(0.5),
        cutmix=some(0.5), copy_paste=unit, multi_scale=st.booleans(),
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(augment=random_configs(), seed=st.integers(0, 2**64 - 1))
def test_boxes_and_polygons_stay_inside_and_threads_change_nothing(sets, augment, seed):
    one = list(pictures(sets["polygons"], augment, seed=seed, batch_size=3))
    for image, boxes, _, rings in one:
        side = image.shape[-1]
        assert (boxes > -1e-3).all()
        assert (boxes < side + 1e-3).all()
        assert (boxes[:, 1] - boxes[:, 0] > 1.99).all()
        for box, parts in zip(boxes, rings, strict=True):
            points = np.concatenate(parts)
            np.testing.assert_allclose([points.min(0), points.max(0)], box, atol=1e-2)
    two = list(pictures(sets["polygons"], augment, seed=seed, batch_size=3, threads=3))
    for (a, b, c, _), (d, e, f, _) in zip(one, two, strict=True):
        assert a.tobytes() == d.tobytes()
        assert b.tobytes() == e.tobytes()
        assert c == f


def test_batch_size_changes_nothing_without_multi_scale(sets):
    augment = dataclasses.replace(AugmentConfig(), **KINDS["all"])
    base = [image.tobytes() for image, *_ in pictures(sets["polygons"], augment)]
    assert base == [image.tobytes() for image, *_ in pictures(sets["polygons"], augment, batch_size=5)]


EVERYTHING = AugmentConfig(**{**KINDS["all"], "multi_scale": True})


def test_caches_ranks_and_resuming_change_nothing_and_partners_cost_no_decode(sets):
    options = {"imgsz": 64, "batch_size": 2, "seed": 5, "augment": EVERYTHING}
    one = Loader(sets["polygons"], threads=1, **options)
    whole = list(one.epoch(1))
    assert flatten(one.epoch(2))
    assert one._pipeline().num_decoded() == len(sets["polygons"])
    for cache in ("ram", "disk"):
        assert flatten(Loader(sets["polygons"], threads=7, cache=cache, **options).epoch(1)) == flatten(whole)
    ranks = [list(Loader(sets["polygons"], threads=2, rank=r, world_size=2, **options).epoch(1)) for r in (0, 1)]
    assert flatten([ranks[0][0], ranks[1][0], ranks[0][1]]) == flatten(whole)
    rest = Loader(sets["polygons"], threads=2, **options)
    rest.load_state_dict({**rest.state_dict(), "epoch": 1, "position": 2})
    assert flatten(rest.epoch(1)) == flatten(whole[1:])


def test_a_partner_that_vanished_is_replaced_with_its_labels(tmp_path):
    dataset = open_dataset(make_set(tmp_path, segments=True))
    dataset[2].path.unlink()
    augment = dataclasses.replace(PLAIN, mixup=1.0, mosaic=1.0, copy_paste=1.0)
    one, two = (list(pictures(dataset, augment, on_error="skip", threads=t)) for t in (1, 3))
    without = [sample for i, sample in enumerate(dataset) if i != 2]
    dataset._samples = [*without[:2], without[2], *without[2:]]
    for (a, b, c, _), (d, e, f, _), (g, h, i, _) in zip(one, two, pictures(dataset, augment), strict=True):
        assert a.tobytes() == d.tobytes() == g.tobytes()
        assert b.tobytes() == e.tobytes() == h.tobytes()
        assert c == f == i


@pytest.mark.parametrize(("name", "axis"), [("fliplr", 2), ("flipud", 1)])
def test_a_flip_mirrors_every_pixel_and_label(sets, name, axis):
    plain = list(pictures(sets["polygons"], PLAIN))
    flipped = list(pictures(sets["polygons"], dataclasses.replace(PLAIN, **{name: 1.0})))
    for (a, boxes, _, _), (b, mirrored, _, _) in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(np.flip(b, axis), a)
        back = mirrored.copy()
        back[:, :, 2 - axis] = 64 - mirrored[:, ::-1, 2 - axis]
        np.testing.assert_allclose(back, boxes, atol=1e-4)


def test_a_data_set_of_one_picture_is_its_own_mosaic_and_partner(tmp_path):
    dataset = open_dataset(make_set(tmp_path, segments=True, sizes=((64, 64),)))
    augment = dataclasses.replace(AugmentConfig(), mixup=1.0, copy_paste=1.0)
    [(image, boxes, _, _)] = pictures(dataset, augment)
    assert image.std() > 5
    assert len(boxes)


def test_partners_without_boxes(tmp_path):
    path = make_set(tmp_path, segments=False)
    for i in range(1, 5):
        (tmp_path / f"labels/train/{i}.txt").write_text("")
    for kind in ("mixup", "cutmix"):
        assert len(list(pictures(open_dataset(path), dataclasses.replace(AugmentConfig(), **{kind: 1.0})))) == 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (9, 3)])
def test_tiny_and_extreme_pictures(tmp_path, shape):
    dataset = open_dataset(make_set(tmp_path, segments=True, sizes=(shape, (64, 64))))
    augment = dataclasses.replace(AugmentConfig(), **KINDS["all"])
    for epoch in range(5):
        assert len(list(pictures(dataset, augment, epoch=epoch))) == 2


def test_uncovered_pixels_are_114(sets):
    augment = dataclasses.replace(PLAIN, degrees=45.0, scale=0.9)
    corners = [image[:, 0, 0] for epoch in range(6) for image, *_ in pictures(sets["boxes"], augment, epoch=epoch)]
    assert sum((c == 114).all() for c in corners) > 5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"degrees": 1e9}, "degrees must be between 0 and 180"),
        ({"perspective": 1}, r"perspective must be between 0 and 0\.001"),
        ({"shear": 45}, "shear must be between 0 and 40"),
        ({"mixup": float("nan")}, "mixup must be between 0 and 1"),
        ({"mixup": 0.7, "cutmix": 0.6}, r"mixup \+ cutmix must be at most 1"),
        ({"copy_paste": -1}, "copy_paste must be between 0 and 1"),
    ],
)
def test_hostile_configs_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        AugmentConfig(**options)


def test_copy_paste_without_polygons_is_refused(sets):
    with pytest.raises(ConfigError, match=r"copy_paste=0\.5 needs polygons or masks"):
        next(Loader(sets["boxes"], 64, augment=AugmentConfig(copy_paste=0.5)).epoch(0))


@pytest.mark.parametrize("rect", [False, True])
def test_validation_carries_polygons(sets, rect):
    batches = list(Loader(sets["polygons"], 64, 2, train=False, rect=rect).epoch(0))
    assert any(batch.images.shape[2] != batch.images.shape[3] for batch in batches) == rect
    for batch in batches:
        size = torch.tensor(batch.images.shape[:1:-1])  # width, height
        first = [(batch.batch_index == k).nonzero()[0].item() for k in range(len(batch.images))]
        for k, box in enumerate(first):
            gain, left, top = batch.letterbox[k].tolist()
            [ring] = batch.segments.of(box)
            expected = sets["polygons"][batch.sample_index[k]].segments[0][0]
            np.testing.assert_allclose((ring * size - torch.tensor([left, top])) / gain, expected, atol=1e-3)
        assert len(batch.segments.box_offsets) == len(batch.classes) + 1
