"""The bookkeeping of benches/accuracy.py: what is kept, what is counted, what lands on the page."""

import dataclasses
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

import ablation
import accuracy
from data.test_masks import make_coco
from learn import Job, Learned, _epochs, figures
from mamba_yolo.cli.demo import DATA
from mamba_yolo.data import open_dataset
from mamba_yolo.ops import encode_rle
from page import put_table


def test_a_table_replaces_the_one_of_its_title_and_nothing_else(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nBy hand.\n", encoding="utf-8")
    for title, table in (("a", "old a"), ("b", "b"), ("a", "new a")):
        put_table(page, title, table)
    page.write_text(page.read_text(encoding="utf-8") + "\nMore by hand.\n", encoding="utf-8")
    put_table(page, "b", "new b")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Results\n\nBy hand.\n\n<!-- begin a -->\n### a\n\nnew a\n<!-- end a -->\n")
    assert text.endswith("### b\n\nnew b\n<!-- end b -->\n\nMore by hand.\n")
    assert "old a" not in text


def test_perfect_rows_score_one_and_a_missing_photograph_is_an_error():
    dataset = open_dataset(DATA, "val")
    rows = {
        s.path.name: [[*box, 0.9, int(c)] for box, c in zip(s.boxes_xyxy.tolist(), s.classes, strict=True)]
        for s in dataset
    }
    found = figures(dataset, rows)
    assert {round(value, 9) for value in found.values()} == {1.0}
    assert {"ap", "ap50", "RBC ap50", "WBC ap50_95"} <= set(found)
    rows[dataset[0].path.name] = []
    assert figures(dataset, rows)["ap"] < 1
    del rows[dataset[1].path.name]
    with pytest.raises(KeyError, match="blood_"):
        figures(dataset, rows)


def test_masks_are_measured_beside_boxes(tmp_path):
    inside = torch.zeros(40, 60, dtype=torch.uint8)
    inside[10:30, 20:50] = 1
    dataset = open_dataset(make_coco(tmp_path, inside[None]), "train")
    rows, name = [[20, 10, 50, 30, 0.9, 0]], dataset[0].path.name
    good, bad = ({name: [encode_rle(mask)]} for mask in (inside, inside.roll(8, 1)))
    found = figures(dataset, {name: rows}, good)
    assert (found["ap"], found["mask_ap"], found["mask_ap50"]) == pytest.approx((1, 1, 1))
    found = figures(dataset, {name: rows}, bad)  # of 22 in 38 columns the two agree
    assert (found["ap"], found["mask_ap"], found["mask_ap50"]) == pytest.approx((1, 0.2, 1))
    assert "mask_ap" not in figures(dataset, {name: rows})


def test_runs_that_differ_have_folders_of_their_own():
    base = {"model": "n", "data": Path("bccd")}
    jobs = [Job(**base, **change) for change in ({}, {"seed": 1}, {"epochs": 2}, {"batch": 8}, {"imgsz": 160})]
    jobs += [Job(**base, **change) for change in ({"split": "val"}, {"threads": 1}, {"options": {"ema": 0.9}})]
    assert len({job.name for job in jobs}) == len(jobs)
    assert Job("n", Path("a")).is_ours
    assert Job("t-seg", Path("a")).is_ours
    assert not Job("yolov8n", Path("a")).is_ours
    assert not Job("yolov8n-seg", Path("a")).is_ours


def test_an_epoch_repeated_after_an_interruption_counts_once(tmp_path):
    rows = [(1, 5.0), (2, 6.0), (2, 99.0), (3, 7.0)]
    lines = [json.dumps({"epoch": e, "train_s": s, "wall_s": s}) for e, s in rows]
    (tmp_path / "epochs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [row["wall_s"] for row in _epochs(tmp_path / "epochs.jsonl")] == [5.0, 6.0, 7.0]


def learned(model, seed, ap):
    values = {"ap": ap, "ap50": ap, "cell ap50": ap, "cell ap50_95": ap}
    return Learned(Job(model, Path("bccd"), seed=seed), values, 0.5, 20.0, 1000, {"torch": "2"}, "a machine")


def test_tables_hold_means_and_single_seeds():
    wanted = Namespace(
        only=("n", "yolov8n"),
        seeds=(0, 1),
        epochs=100,
        imgsz=320,
        batch=16,
        threads=2,
        data=Path("bccd"),
        split="test",
    )
    runs = [learned("n", 0, 0.5), learned("n", 1, 0.7), learned("yolov8n", 0, 0.4)]
    text = accuracy.table(runs, wanted)
    assert "| **n** | 1,000 | 0.600 (0.500, 0.700) |" in text
    assert "| yolov8n | 1,000 | 0.400 (0.400) |" in text
    assert "cell AP50 / AP" in text
    assert "--only n,yolov8n --seeds 0,1 --epochs 100" in text
    assert "mask" not in text
    changed = ablation.table({"baseline": runs[:2], "cosine": [learned("n", 0, 0.55)]}, wanted)
    assert "| cos_lr=True | 0.550 | 0.550 | 0.550 | -0.050 |" in changed
    assert np.isfinite(runs[0].hours)


def test_a_table_of_networks_with_masks_begins_with_them():
    wanted = Namespace(
        only=("n-seg",), seeds=(0,), epochs=40, imgsz=384, batch=8, threads=2, data=Path("nuclei"), split="val"
    )
    run = learned("n-seg", 0, 0.5)
    run.figures.update({"mask_ap": 0.4, "mask_ap50": 0.7})
    text = accuracy.table([run], wanted)
    assert "| model | parameters | mask AP50 | mask AP50-95 | AP50 | AP50-95 | cell AP50 / AP |" in text
    assert "| **n-seg** | 1,000 | 0.700 (0.700) | 0.400 (0.400) | 0.500 (0.500) |" in text
    assert "--threads 2 --data nuclei --split val`" in text
    assert "of the val split" in text


def test_options_behind_a_name_go_to_its_program_and_into_its_row():
    wanted = Namespace(
        only=("yolov8n", "yolov8n:nbs=8:cos_lr=true"), seeds=(0,), epochs=30, imgsz=320, batch=8, threads=1,
        data=Path("bccd"), split="test", device="cpu",
    )  # fmt: skip
    plain, changed = (accuracy.job(name, 0, wanted) for name in wanted.only)
    assert (plain.model, plain.options) == ("yolov8n", {})
    assert (changed.model, changed.options) == ("yolov8n", {"nbs": 8, "cos_lr": True})
    assert plain.name != changed.name
    runs = [dataclasses.replace(learned("yolov8n", 0, ap), job=one) for one, ap in ((plain, 0.4), (changed, 0.6))]
    text = accuracy.table(runs, wanted)
    assert "| yolov8n | 1,000 | 0.400 (0.400) |" in text
    assert "| yolov8n, nbs=8, cos_lr=True | 1,000 | 0.600 (0.600) |" in text
