"""Decoding, letterboxing and loading, beside Pillow and simplejpeg where installed; the result is asserted first.

Run: `pytest benches/test_data.py --benchmark-only -s`. Pictures: coco128, from memory; one thread unless said.
"""

from __future__ import annotations

import importlib.util
import io
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mamba_yolo.data import Loader, decode_image, letterbox, open_dataset

COCO = Path(__file__).resolve().parents[2] / "shared/data/coco128"
ROUNDS = 5


@pytest.fixture(scope="module")
def files():
    if not COCO.exists():
        pytest.skip("needs ../shared/data/coco128")
    return [path.read_bytes() for path in sorted((COCO / "images/train2017").glob("*.jpg"))]


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def seconds(work):
    """Best time of a peer."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def report(what, benchmark, count, peer):
    ours = benchmark.stats.stats.min if benchmark.stats else float("nan")
    peers = ", ".join(f"{name} {count / t:.0f} ({t / ours:.2f}x)" for name, t in peer.items())
    print(f"\n{what}: {count / ours:.0f} img/s{'; ' + peers if peers else ''}")


def test_decode(benchmark, files):
    for data in files[::32]:
        np.testing.assert_array_equal(decode_image(data), pillow(data))
    peers = {"Pillow": seconds(lambda: [pillow(data) for data in files])}
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        peers["simplejpeg"] = seconds(lambda: [simplejpeg.decode_jpeg(data) for data in files])
    benchmark.pedantic(lambda: [decode_image(data) for data in files], rounds=ROUNDS)
    report("decode", benchmark, len(files), peers)


def test_letterbox(benchmark, files):
    images = [decode_image(data) for data in files]

    def pillow_letterbox(image):
        height, width = image.shape[:2]
        gain = min(640 / height, 640 / width)
        size = max(round(width * gain), 1), max(round(height * gain), 1)
        canvas = Image.new("RGB", (640, 640), (114, 114, 114))
        scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        canvas.paste(scaled, (round((640 - size[0]) / 2 - 0.1), round((640 - size[1]) / 2 - 0.1)))
        return np.ascontiguousarray(np.asarray(canvas).transpose(2, 0, 1))

    for image in images[::32]:
        difference = np.abs(letterbox(image, 640, 640)[0].astype(int) - pillow_letterbox(image))
        assert difference.mean() < 1
    peers = {"Pillow": seconds(lambda: [pillow_letterbox(image) for image in images])}
    benchmark.pedantic(lambda: [letterbox(image, 640, 640) for image in images], rounds=ROUNDS)
    report("letterbox 640", benchmark, len(files), peers)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("train", [False, True])
def test_loader(benchmark, files, train, threads):
    dataset = open_dataset(COCO / "coco128_detect.yaml")

    def epoch():
        loader = Loader(dataset, imgsz=640, batch_size=16, train=train, threads=threads)
        return sum(len(batch.images) for batch in loader.epoch(0))

    assert epoch() == len(files)
    benchmark.pedantic(epoch, rounds=3)
    report(
        f"loader 640, {'mosaic' if train else 'letterbox'}, {threads} threads, cold cache", benchmark, len(files), {}
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Eight copies of every picture under other names: a set larger than a peer's buffer of 8 batches."""
    root = tmp_path_factory.mktemp("many")
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
        for file in sorted((COCO / kind / "train2017").iterdir()):
            for k in range(8):
                shutil.copyfile(file, root / kind / "train" / f"{k}_{file.name}")
    (root / "data.yaml").write_text(f"train: images/train\nnc: 80\nnames: {[str(i) for i in range(80)]}\n")
    return root / "data.yaml"


def python_scan(path):
    """Headers by Pillow and rows by plain Python: what the native scan takes the place of."""
    count = 0
    for image in sorted((path.parent / "images/train").glob("*.jpg")):
        with Image.open(image) as opened:
            opened.verify()
        labels = path.parent / "labels/train" / f"{image.stem}.txt"
        lines = labels.read_text().splitlines() if labels.exists() else []
        count += sum(len([float(v) for v in line.split()]) == 5 for line in lines)
    return count


@pytest.mark.parametrize("warm", [False, True])
def test_label_scan(benchmark, files, many, warm, tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_YOLO_CACHE", str(tmp_path))
    boxes = sum(len(sample.classes) for sample in open_dataset(many))
    assert 0 <= python_scan(many) - boxes < 100  # rows that occur twice are dropped

    def forget():
        if not warm:
            shutil.rmtree(tmp_path / "labels")

    benchmark.pedantic(lambda: open_dataset(many), setup=forget, rounds=ROUNDS)
    report(
        f"label scan, {'warm' if warm else 'cold'}",
        benchmark,
        8 * len(files),
        {"Python": seconds(lambda: python_scan(many))},
    )


@pytest.mark.parametrize("cache", ["off", "ram", "disk"])
def test_epochs(benchmark, files, many, cache, tmp_path, monkeypatch):
    """A second epoch, 1 thread: every picture is decoded once, or not at all from a cache; then the pauses."""
    monkeypatch.setenv("MAMBA_YOLO_CACHE", str(tmp_path))
    loader = Loader(open_dataset(many), imgsz=640, batch_size=16, threads=1, cache=cache)
    start = time.perf_counter()
    epoch = loader.epoch(0)
    next(epoch)
    first = time.perf_counter() - start
    for _ in epoch:
        pass
    before = loader._pipeline().num_decoded()
    benchmark.pedantic(lambda: sum(len(b.images) for b in loader.epoch(1)), rounds=1)
    decoded = (loader._pipeline().num_decoded() - before) / (8 * len(files))
    start = time.perf_counter()
    next(loader.epoch(2))
    stall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report(f"mosaic 640, 1 thread, cache {cache}", benchmark, 8 * len(files), {})
    print(
        f"  {decoded:.2f} decodes per image, first batch {first * 1e3:.0f} ms, next epoch {stall * 1e3:.1f} ms, "
        f"peak {peak:.0f} MB"
    )
    assert decoded < 1.1
