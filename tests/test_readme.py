"""The README's Python runs as printed, in a folder that holds what it names."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

import mamba_yolo
from helpers import ROOT
from mamba_yolo import MambaYOLO
from mamba_yolo.engine.checkpoint import Checkpoint, save

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Weights, photographs and a data set under the names the README uses."""
    monkeypatch.chdir(tmp_path)
    model = MambaYOLO("mamba-yolo-n", num_classes=2)
    checkpoint = Checkpoint(
        arch=model.module.config, names=model.names, weights=model.module.state_dict(), imgsz=64, figures={}
    )
    save(tmp_path / "best.safetensors", checkpoint)
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos/a.jpg")
    demo = ROOT / "python/mamba_yolo/assets/bccd_mini"
    shutil.copytree(demo, tmp_path / "my_data")
    for path in sorted((tmp_path / "my_data/images/train").iterdir())[4:]:
        path.unlink()
    return tmp_path


@pytest.mark.e2e
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run(folder, number):
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {})  # noqa: S102  (our own README)


def test_the_parameter_table_is_true():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for size, count in re.findall(r"^\| ([ntbl]) \| ([\d,]+) \|", text, flags=re.MULTILINE):
        detector = mamba_yolo.build_detector(size)
        assert sum(p.numel() for p in detector.parameters()) == int(count.replace(",", "")), size
