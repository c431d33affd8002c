"""With everything that joins pictures switched on: bytes by (seed, epoch, position) alone, however an epoch is cut."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from data.batches import flatten, loader, make_set
from mamba_yolo.data import AugmentConfig, Loader, open_dataset
from mamba_yolo.errors import ConfigError

EPOCH = 2
ALL = AugmentConfig(
    degrees=15.0, shear=5.0, perspective=5e-4, scale=0.4, translate=0.1, flipud=0.3,
    mosaic=0.7, mixup=0.5, cutmix=0.3, copy_paste=0.6,
)  # fmt: skip
CACHES = pytest.mark.parametrize("cache", ["off", "ram", "disk"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Seven pictures with ellipses: the last batches are of different sizes whatever the batch size."""
    sizes = ((64, 48), (40, 64), (64, 64), (33, 64), (64, 21), (50, 50), (21, 63))
    path = make_set(tmp_path_factory.mktemp("set"), segments=True, sizes=sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMBA_YOLO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_dataset(path)


def everything(dataset, **options):
    return Loader(dataset, **{"imgsz": 64, "batch_size": 2, "seed": 9, "threads": 1, "augment": ALL, **options})


@pytest.fixture(scope="module")
def whole(dataset):
    rows = flatten(everything(dataset).epoch(EPOCH))
    assert len(set(rows)) == 7
    return rows


@CACHES
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 16])
def test_threads_and_batch_sizes(dataset, whole, cache, threads, batch_size):
    one = everything(dataset, cache=cache, threads=threads, batch_size=batch_size)
    assert flatten(one.epoch(EPOCH)) == whole
    assert flatten(one.epoch(EPOCH)) == whole


@CACHES
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks(dataset, whole, cache, world):
    ranks = [everything(dataset, cache=cache, threads=2, rank=r, world_size=world) for r in range(world)]
    turns = itertools.zip_longest(*(one.epoch(EPOCH) for one in ranks))
    assert flatten(batch for turn in turns for batch in turn if batch is not None) == whole


@CACHES
@pytest.mark.parametrize("after", range(8))
def test_resuming_at_every_position(dataset, whole, cache, after):
    first = everything(dataset, cache=cache, batch_size=1)
    first.set_epoch(EPOCH)
    assert flatten(itertools.islice(iter(first), after)) == whole[:after]
    second = everything(dataset, cache=cache, threads=2)
    second.load_state_dict({**first.state_dict(), "epoch": EPOCH, "position": after})
    assert flatten(second) == whole[after:]
    assert flatten(second) == flatten(everything(dataset).epoch(EPOCH + 1))


def test_seeds_and_epochs_differ(dataset, whole):
    assert not set(whole) & set(flatten(everything(dataset, seed=10).epoch(EPOCH)))
    assert not set(whole) & set(flatten(everything(dataset).epoch(EPOCH + 1)))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_batch_that_is_kept_stays_while_a_hundred_more_are_drawn(dataset, dtype):
    one = everything(dataset, threads=2, dtype=dtype)
    kept = next(iter(one.epoch(0)))
    before = flatten([kept])
    assert sum(1 for number in range(26) for _ in one.epoch(number)) == 104
    assert flatten([kept]) == before


def test_no_number_of_threads_means_as_many_as_there_are(dataset, whole):
    one = everything(dataset, threads=0)
    assert one.threads > 0
    assert flatten(one.epoch(EPOCH)) == whole


@pytest.mark.parametrize("train", [True, False])
def test_boxes_belong_to_the_upright_picture(tmp_path, train):
    rows = []
    for orientation in (1, 6):
        path = make_set(tmp_path / str(orientation), segments=True, sizes=((48, 64), (60, 33)))
        for file in path.parent.glob("images/train/*.png"):
            picture, tags = Image.open(file), Image.Exif()
            tags[0x0112] = orientation
            turned = picture.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else picture
            turned.save(file, exif=tags)
        options = {} if train else {"rect": True}
        rows.append(flatten(loader(path, train=train, augment=ALL, **options).epoch(0)))
    assert rows[0] == rows[1]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_not_utf_8(tmp_path):
    path = make_set(tmp_path, segments=False, sizes=((64, 64),))
    for folder, suffix in (("images", ".png"), ("labels", ".txt")):
        file = tmp_path / folder / "train" / f"0{suffix}"
        file.rename(file.with_stem(os.fsdecode(b"\xff")))
    [batch] = loader(path, train=False).epoch(0)
    assert len(batch.classes) == 1


def test_a_hundred_thousand_boxes_on_one_picture(tmp_path):
    path = make_set(tmp_path, segments=False, sizes=((64, 64),))
    centres = (0.001 + 0.00316 * np.arange(316)).round(6).tolist()
    rows = (f"0 {x} {y} 0.002 0.002" for y in centres for x in centres)
    (tmp_path / "labels/train/0.txt").write_text("\n".join(rows))
    [batch] = loader(path, train=False).epoch(0)
    assert len(batch.classes) == 99_856
    [small] = loader(path, augment=AugmentConfig(mosaic=0.0)).epoch(0)
    assert len(small.classes) == 0  # 0.13 of a pixel: none is kept


@pytest.mark.parametrize("colour", [0, 255, 77])
def test_greys_keep_their_hue_under_any_colour_shift(tmp_path, colour):
    path = make_set(tmp_path, segments=False, sizes=((64, 64),))
    Image.fromarray(np.full((64, 64, 3), colour, np.uint8)).save(tmp_path / "images/train/0.png")
    still = {"translate": 0.0, "scale": 0.0, "mosaic": 0.0}
    for seed in range(5):
        [batch] = loader(path, seed=seed, augment=AugmentConfig(hsv_h=0.5, hsv_s=1.0, hsv_v=0.4, **still)).epoch(0)
        red, green, blue = batch.images[0].int()
        assert (red == green).all()
        assert (green == blue).all()
        assert colour or not red.any()


def test_close_epoch_is_checked(dataset):
    with pytest.raises(ConfigError, match="close_epoch must be between 0"):
        everything(dataset, close_epoch=-1)
