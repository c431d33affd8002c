"""A network with masks from the first batch to the last figure: files, resuming, little memory, one clear error."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mamba_yolo.config import DetectorConfig, TrainConfig
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.outcome import read_result, write_result
from mamba_yolo.engine.recorder import columns_of, read_rows
from mamba_yolo.engine.train import train
from mamba_yolo.errors import DataError
from mamba_yolo.models import Detector
from mamba_yolo.ops import encode_rle

ARCH = DetectorConfig(
    width=1 / 16, num_classes=1, task="segment", stage_depths=(1, 1, 1, 1), local_spatial=False, state_size=2
)


def make_set(folder, *, masks=True):
    """Six pictures of 64 pixels with two discs each, four to train on; run-length masks in COCO JSON."""
    rng, y_x = np.random.default_rng(0), np.mgrid[:64, :64]
    for split, count in (("train", 4), ("val", 2)):
        images, annotations = [], []
        for i in range(count):
            pixels = np.full((64, 64, 3), 40, np.uint8)
            for _ in range(2):
                cy, cx, r = rng.integers(16, 48), rng.integers(16, 48), rng.integers(6, 14)
                disc = (y_x[0] - cy) ** 2 + (y_x[1] - cx) ** 2 < r * r
                pixels[disc] = 220
                box = [int(v) for v in (cx - r + 1, cy - r + 1, 2 * r - 1, 2 * r - 1)]
                row = {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "bbox": box, "iscrowd": 0}
                annotations.append(row | ({"segmentation": encode_rle(torch.from_numpy(disc))} if masks else {}))
            Image.fromarray(pixels).save(folder / f"{split}{i}.png")
            images.append({"id": i, "file_name": f"{split}{i}.png", "height": 64, "width": 64})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder / "train.json"


def detector():
    torch.manual_seed(0)
    return Detector(ARCH)


def config(folder, **options):
    values = {"data": str(make_set(folder)), "epochs": 2, "imgsz": 64, "batch": 4, "nbs": 4, "device": "cpu",
              "workers": 1, "plots": False, "warmup_epochs": 0.0}  # fmt: skip
    return TrainConfig(**(values | {"project": str(folder)} | options))


class Stop(Callback):
    def on_epoch_end(self, epoch, row, metrics):
        raise KeyboardInterrupt


def test_run_resumes_to_the_same_bits_and_its_files_name_masks(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = train(config(tmp_path / "a", plots=True), model=detector(), names={0: "disc"})
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "b", plots=True), model=detector(), names={0: "disc"}, callbacks=[Stop()])
    resumed = train(config(tmp_path / "b", resume=True))
    rows = [read_rows(r.run_dir / "results.csv") for r in (straight, resumed)]
    for row in rows[0] + rows[1]:
        del row["time"]
    assert rows[0] == rows[1]
    assert list(rows[0][0]) == [c for c in columns_of("segment") if c != "time"]
    assert all(row["train/seg_loss"] > 0 and row["val/seg_loss"] > 0 for row in rows[0])
    metrics = straight.best_metrics
    assert set(metrics.losses) == {"box", "seg", "cls", "dfl"}
    assert metrics.fitness == pytest.approx(sum(0.1 * m.map50 + 0.9 * m.map50_95 for m in (metrics, metrics.seg)))
    assert metrics.figures()["mask_map50"] == metrics.seg.map50 == metrics.to_dict()["seg"]["map50"]
    assert {"MaskPR_curve.png", "BoxPR_curve.png", "train_batch0.jpg"} <= {p.name for p in straight.run_dir.iterdir()}
    assert "mask AP50" in (straight.run_dir / "report.html").read_text()
    write_result(tmp_path / "result.json", straight)
    assert read_result(tmp_path / "result.json").best_metrics == metrics


def test_batches_in_pieces_learn_masks_too(tmp_path, monkeypatch, capsys):
    forward = Detector.forward

    def tight(self, images):
        if self.training and len(images) > 2:
            raise MemoryError
        return forward(self, images)

    monkeypatch.setattr(Detector, "forward", tight)
    result = train(config(tmp_path, epochs=1), model=detector(), names={0: "disc"})
    assert "computed in 2 pieces" in capsys.readouterr().err
    assert read_rows(result.run_dir / "results.csv")[0]["train/seg_loss"] > 0


def test_a_data_set_of_boxes_is_refused(tmp_path):
    options = config(tmp_path)
    make_set(tmp_path, masks=False)
    with pytest.raises(DataError, match="has boxes only, and a -seg model learns from masks"):
        train(options, model=detector(), names={0: "disc"})
