"""Two processes train like one: the same losses and weights, one voice, one end for all. gloo on the CPU."""

from __future__ import annotations

import json
import re

import pytest
import torch

from engine import tiny
from engine.torchrun import python, torchrun
from helpers import ROOT
from mamba_yolo.engine import checkpoint
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.ranks import Place, Ranks, _device_of, join, place_of_process
from mamba_yolo.errors import ConfigError

WORKER = "rank_worker.py"
UNEVEN = [
    "batch=6",
    "nbs=6",
    "optimizer=sgd",
    "lr0=0.001",
    "warmup_bias_lr=0.001",
]  # of 8 images: shares of 3, 3 and 2, 0


def rows(folder):
    return [json.loads(line) for line in (folder / "train/metrics.jsonl").read_text().splitlines()]


def assert_close_runs(a, b, rtol=1e-5):
    """Losses of every epoch, and the weights both averaged and raw."""
    for first, second in zip(rows(a), rows(b), strict=True):
        for name in ("train/box_loss", "train/cls_loss", "val/box_loss", "val/cls_loss", "lr/pg0"):
            assert first[name] == pytest.approx(second[name], rel=rtol), name
    files = [checkpoint._read(f / "train/weights/last.safetensors")[0] for f in (a, b)]
    for name, value in files[0].items():
        if not name.startswith("resume/random"):
            torch.testing.assert_close(value, files[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    ended = python(str(ROOT / "tests/engine" / WORKER), "straight", str(folder), *UNEVEN)
    assert ended.code == 0, ended.text
    return folder


def test_exchange_norms_losses_gradients_and_figures_are_those_of_the_whole():
    ended = torchrun("rank_parts.py")
    assert ended.code == 0, ended.text
    assert sorted(re.findall(r"done (\d)", ended.text)) == ["0", "1"]


def test_two_ranks_train_like_one_with_an_uneven_last_batch(tmp_path, alone):
    ended = torchrun(WORKER, "straight", tmp_path, "sync_bn=true", *UNEVEN)
    assert ended.code == 0, ended.text
    assert_close_runs(tmp_path, alone)
    assert ended.text.count("epoch 4/4: precision") == 1
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["train"]


def test_killed_rank_restarts_all_from_the_last_checkpoint(tmp_path, alone):
    ended = torchrun(WORKER, "killed_once", tmp_path, "sync_bn=true", *UNEVEN, restarts=1)
    assert ended.code == 0, ended.text
    assert "resuming" in ended.text
    assert "after epoch 2" in ended.text
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert_close_runs(tmp_path, alone)


def test_plain_norms_early_stop_all_ranks_hold_the_same_bits(tmp_path):
    ended = torchrun(WORKER, "stops_early", tmp_path, "epochs=9", "patience=2", "plots=true")
    assert ended.code == 0, ended.text
    states = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1)]
    assert states[0]["epochs"] == 3
    assert states[0]["best"] == 1
    assert states[0] == states[1]
    assert ended.text.count("no better epoch in 2: stopped after epoch 3") == 1
    assert "8 training images" in (tmp_path / "train/report.html").read_text(encoding="utf-8")


def test_loss_that_is_not_finite_on_one_rank_ends_all_with_one_line(tmp_path):
    ended = torchrun(WORKER, "fails", tmp_path)
    assert ended.code == 1
    lines = [line for line in ended.text.splitlines() if line.startswith("error of rank")]
    assert len(lines) == 1, ended.text
    assert re.search(r"error of rank 1: step 3: the loss is not finite .*image\d+\.png", lines[0])
    assert checkpoint.load(tmp_path / "train/weights/last.safetensors").resume.epoch == 1


def test_interrupted_rank_ends_all_and_one_process_goes_on(tmp_path, alone):
    ended = torchrun(WORKER, "interrupted", tmp_path, "sync_bn=true", *UNEVEN)
    assert ended.code == 1
    assert ended.text.count("stopped: epoch 2 is safe") == 1
    ended = python(str(ROOT / "tests/engine" / WORKER), "straight", str(tmp_path), *UNEVEN, "resume=true",
                   "sync_bn=true")  # fmt: skip
    assert ended.code == 0, ended.text
    assert_close_runs(tmp_path, alone)


def test_one_process_is_a_group_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    with join("cpu") as ranks:
        assert ranks == Ranks()
    values = torch.ones(2)
    assert ranks.total(values) is values
    assert ranks.gather(values)[0] is values
    assert ranks.same_text("a") == "a"


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, Place(5, 8, 1, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Place(1, 2, 1, 2)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Place(0, 1, 0, 1)),  # a batch script outside srun
        (
            {"SLURM_STEP_ID": "0", "MASTER_ADDR": "n1", "SLURM_NTASKS": "8", "SLURM_PROCID": "6", "SLURM_LOCALID": "2",
             "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
            Place(6, 8, 2, 4),
        ),
    ],
)  # fmt: skip
def test_place_is_what_the_launcher_says(monkeypatch, environment, place):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert place_of_process() == place


def test_each_rank_has_a_device_of_its_own(monkeypatch):
    assert [_device_of("2,3", Place(4 + i, 8, i, 2)) for i in (0, 1)] == ["2", "3"]
    assert _device_of("cpu", Place(1, 2, 1, 2)) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _device_of("auto", Place(3, 4, 1, 2)) == "1"
    with pytest.raises(ConfigError, match="3 ranks on this machine, but device=auto has 2"):
        _device_of("auto", Place(0, 3, 0, 3))
    with pytest.raises(ConfigError, match="2 ranks on this machine, but device=0 has 1; give one device per rank"):
        _device_of("0", Place(0, 2, 0, 2))


def test_batch_is_shared_evenly_or_refused():
    assert Ranks(world_size=4).share_of(16) == 4
    with pytest.raises(ConfigError, match=r"batch=10 cannot be shared by 4 ranks.*such as 12"):
        Ranks(world_size=4).share_of(10)


def test_several_devices_outside_training_are_refused():
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N"):
        pick_device("0,1")


def test_one_file_names_torch_distributed():
    pattern = re.compile(r"^\s*(from|import) .*\bdistributed\b|torch\.distributed\.", re.M)
    homes = [p.name for p in (ROOT / "python").rglob("*.py") if pattern.search(p.read_text(encoding="utf-8"))]
    assert homes == ["ranks.py"]


def test_tiny_loader_shares_batches_like_the_real_one():
    data = tiny.TinyDataset(7)
    whole = [b.sample_index.tolist() for b in tiny.TinyLoader(data, batch_size=2).epoch(1)]
    shares = [tiny.TinyLoader(data, batch_size=2, rank=r, world_size=3) for r in range(3)]
    assert [[b.sample_index.tolist() for b in s.epoch(1)] for s in shares] == [whole[0::3], whole[1::3], whole[2::3]]
    assert [len(s) for s in shares] == [2, 1, 1]
