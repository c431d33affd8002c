"""Decoding, letterboxing, label scan, memory and waits, beside the peers where installed; results are asserted first.

Run: `pytest benches/test_data.py --benchmark-only -s`. Pictures: coco128 or generated ones, from memory where nothing
else is said; the peers' loaders run in processes of their own with the same threads (`alone/loading.py`).
"""

from __future__ import annotations

import importlib
import io

import numpy as np
import pytest
from PIL import Image

import peers
from loaders import loading, per_picture
from mamba_yolo.data import decode_image, letterbox
from memory import AVAILABLE, peak_mib
from photos import originals
from timing import medians, processes

SIDE = 640
SCAN_ROUNDS, FIRST_ROUNDS = 7, 3
WORKERS = 8  # what the peer's training asks for; it starts no more than there are cores


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return [path.read_bytes() for path in originals(tmp_path_factory.mktemp("files") / "originals")]


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_decode(beside, files):
    for data in files[::32]:
        np.testing.assert_array_equal(decode_image(data), pillow(data))
    others = {"Pillow": lambda: [pillow(data) for data in files]}
    if peers.version("simplejpeg"):
        decode = importlib.import_module("simplejpeg").decode_jpeg
        others["simplejpeg"] = lambda: [decode(data) for data in files]
    beside(f"decode, 1 thread, {len(files)} JPEG", lambda: [decode_image(data) for data in files], others)


def pillow_letterbox(image):
    height, width = image.shape[:2]
    gain = min(SIDE / height, SIDE / width)
    size = max(round(width * gain), 1), max(round(height * gain), 1)
    canvas = Image.new("RGB", (SIDE, SIDE), (114, 114, 114))
    scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    canvas.paste(scaled, (round((SIDE - size[0]) / 2 - 0.1), round((SIDE - size[1]) / 2 - 0.1)))
    return np.asarray(canvas)


def letterbox_peers():
    """Calls that take and return (H, W, 3), by name."""
    found = {"Pillow": pillow_letterbox}
    if peers.version("ultralytics"):
        box = peers.ultralytics("data.augment").LetterBox((SIDE, SIDE))
        found["ultralytics"] = lambda image: box(image=image)
    if peers.version("albumentations"):
        peer, cv2 = importlib.import_module("albumentations"), importlib.import_module("cv2")
        cv2.setNumThreads(1)
        pad = peer.PadIfNeeded(SIDE, SIDE, border_mode=cv2.BORDER_CONSTANT, fill=114)
        both = peer.Compose([peer.LongestMaxSize(SIDE, interpolation=cv2.INTER_LINEAR), pad])
        found["albumentations"] = lambda image: both(image=image)["image"]
    return found


def test_letterbox(beside, files):
    """Decoded pictures to planes; most of COCO's need no scaling, so it is padding and turning that is timed."""
    images = [decode_image(data) for data in files]
    made = letterbox_peers()
    for image in images[::32]:
        ours = letterbox(image, SIDE, SIDE)[0].astype(int)
        for name, call in made.items():
            assert np.abs(ours - call(image).transpose(2, 0, 1)).mean() < 1, name

    def run(call):
        return lambda: [np.ascontiguousarray(call(image).transpose(2, 0, 1)) for image in images]

    others = {name: run(call) for name, call in made.items()}
    beside(
        f"letterbox alone, 1 thread, {len(files)} pictures", lambda: [letterbox(i, SIDE, SIDE) for i in images], others
    )


def test_validation_pictures(benchmark, figure, photos):
    made = {"ours": loading("ours", photos, threads=1, kind="letterbox")}
    for name in filter(peers.version, ("ultralytics", "albumentations")):
        made[name] = loading(name, photos, threads=0, kind="letterbox")
    with processes(*made.values()):
        found = per_picture(made, "processor", most_decodes=1)
        figure("letterbox for validation from files, 1 thread, per picture", found.pop("ours"), found)
        benchmark.pedantic(lambda: made["ours"].ask("warm"), rounds=1)


def both(data):
    """Our loader and the peer's as its training starts it, on the same number of cores."""
    made = {"ours": loading("ours", data, threads=2)}
    if peers.version("ultralytics"):
        made["ultralytics"] = loading("ultralytics", data, threads=WORKERS)
    return made


def test_label_scan(benchmark, figure, photos):
    made = both(photos)
    with processes(*made.values()):
        for question, what in (("scan_cold", "cold"), ("scan", "warm")):
            timers = {name: lambda p=process, q=question: p.ask(q) * 1e3 for name, process in made.items()}
            found = medians(timers, SCAN_ROUNDS)
            figure(f"label scan, {what}, 1024 pictures", found.pop("ours"), found)
        benchmark.pedantic(lambda: made["ours"].ask("scan"), rounds=SCAN_ROUNDS)


@pytest.mark.skipif(not AVAILABLE, reason="needs Linux's count of shared pages")
@pytest.mark.parametrize("threads", [2, WORKERS])
def test_memory(benchmark, figure, photos, threads):
    """Of one epoch; the peer's workers are as many as our threads, on machines with fewer cores too."""
    found = {}
    for name in filter(lambda name: name == "ours" or peers.version(name), ("ours", "ultralytics")):
        with processes(loading(name, photos, threads=threads, exactly=True)) as (process,):
            found[name] = peak_mib(process.child.pid, lambda p=process: p.ask("epoch"))
            if name == "ours":
                benchmark.pedantic(lambda p=process: p.ask("warm"), rounds=1)
    figure(f"mosaic, allocated by the process tree, {threads} threads or workers", found.pop("ours"), found, unit="MiB")


def test_waits(benchmark, figure, few_photos):
    """To the first batch, and at the end of an epoch for a consumer that works on each batch."""
    made = both(few_photos)
    with processes(*made.values()):
        found = medians({name: lambda p=p: p.ask("first") * 1e3 for name, p in made.items()}, FIRST_ROUNDS)
        figure("mosaic, time to first batch", found.pop("ours"), found)
        waits = {name: process.ask("waits") for name, process in made.items()}
        for when, what in (("within", "for a batch within an epoch"), ("between", "for the first of the next epoch")):
            values = {name: wait[when] * 1e3 for name, wait in waits.items()}
            figure(f"mosaic, wait {what}", values.pop("ours"), values)
        benchmark.pedantic(lambda: made["ours"].ask("warm"), rounds=1)
