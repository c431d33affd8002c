"""Where pictures come from never changes a batch; what cannot be read is named, or replaced the same way each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.batches import flatten, loader
from mamba_yolo.data import ImageError, Loader, open_dataset
from mamba_yolo.errors import ConfigError


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("kind", [{"train": True}, {"train": False}, {"train": False, "rect": True}])
def test_caches_give_the_same_bytes_and_decode_once(yolo_set, cache, kind):
    plain = loader(yolo_set, **kind)
    expected = [flatten(plain.epoch(e)) for e in range(3)]
    one = loader(yolo_set, cache=cache, threads=2, **kind)
    assert [flatten(one.epoch(e)) for e in range(3)] == expected
    assert one._pipeline().num_decoded() == 6
    again = loader(yolo_set, cache=cache, **kind)
    assert flatten(again.epoch(0)) == expected[0]
    assert again._pipeline().num_decoded() == (6 if cache == "ram" else 0)


def test_a_damaged_or_outdated_cache_file_is_made_anew(yolo_set, cache_folder):
    expected = flatten(loader(yolo_set).epoch(0))
    assert flatten(loader(yolo_set, cache="disk").epoch(0)) == expected
    [file] = (cache_folder / "tiles").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\x55" + whole[101:], b"", bytes(len(whole))):
        file.write_bytes(damaged)
        one = loader(yolo_set, cache="disk")
        assert flatten(one.epoch(0)) == expected
        assert one._pipeline().num_decoded() > 0
        assert file.read_bytes() == whole
    picture = one.dataset[0].path
    os.utime(picture, ns=(1, 1))
    one = loader(yolo_set, cache="disk")
    assert flatten(one.epoch(0)) == expected
    assert one._pipeline().num_decoded() == 1


def test_a_cache_that_does_not_fit_is_refused(yolo_set, monkeypatch, tmp_path):
    monkeypatch.setattr("mamba_yolo.data.pipeline.available_memory", lambda: 10_000)
    with pytest.raises(ConfigError, match=r"cache='ram' needs .* may take 50% .* use cache='disk'"):
        loader(yolo_set, cache="ram")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAMBA_YOLO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="MAMBA_YOLO_CACHE"):
        loader(yolo_set, cache="disk")


def broken_set(yolo_set):
    """A dataset opened before one file was cut short and another deleted."""
    dataset = open_dataset(yolo_set)
    gone, cut = dataset[2].path, dataset[4].path
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:200])
    return dataset, gone, cut


@pytest.mark.parametrize("train", [True, False])
def test_a_file_that_changes_is_named_or_replaced_in_the_same_way(yolo_set, train):
    dataset, gone, cut = broken_set(yolo_set)
    options = {"imgsz": 64, "batch_size": 2, "train": train}
    with pytest.raises(ImageError, match=rf"{gone.name}|{cut.name}"):
        list(Loader(dataset, threads=2, **options).epoch(0))
    runs = []
    for threads in (1, 2, 7):
        one = Loader(dataset, threads=threads, on_error="skip", **options)
        batches = list(one.epoch(0))
        runs.append(flatten(batches))
        assert set(one.skipped) == {gone, cut}
        assert "No such file" in one.skipped[gone]
    assert runs[0] == runs[1] == runs[2]
    samples = [s for b in batches for s in b.sample_index.tolist()]
    assert len(samples) == 6
    assert not {2, 4} & set(samples)
    if not train:
        assert samples == [0, 1, 3, 3, 5, 5]


def test_nothing_readable_is_an_error_even_when_skipping(yolo_set):
    dataset = open_dataset(yolo_set)
    for sample in dataset:
        sample.path.unlink()
    with pytest.raises(ImageError, match="No such file"):
        list(Loader(dataset, imgsz=64, threads=1, on_error="skip").epoch(0))


EPOCHS = """
import resource, sys
from mamba_yolo.data import Loader, open_dataset
loader = Loader(open_dataset(sys.argv[1]), imgsz=320, batch_size=2, threads=2)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
for epoch in range(180):
    for batch in loader.epoch(epoch):
        pass
    if epoch == 59:
        settled = resident()
print(resident() - settled)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_stays_flat_over_many_epochs(yolo_set):
    command = [sys.executable, "-c", EPOCHS, str(yolo_set)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # How many batches wait at once depends on the machine's load, so a few MB come and go; a leak of
    # a tenth of an epoch's 1.8 MB would be 22 MB after 120 epochs.
    assert int(done.stdout) < 8 << 20
