"""Data sets of other kinds train with `data=` alone: nuclei (COCO JSON, PNG) and coco128 (YOLO, 80 classes)."""

import pytest
import yaml

from helpers import shared
from mamba_yolo.cli.entry import run

HOW_LONG = ["model=n", "epochs=1", "imgsz=64", "batch=32", "device=cpu"]


def nuclei(_):
    return shared("data/nuclei")


def coco128(folder):
    """The list of the set's own makers, who validate on the training photographs."""
    place = shared("data/coco128")
    listed = yaml.safe_load((place / "coco128_detect.yaml").read_text(encoding="utf-8"))
    path = folder / "coco128.yaml"
    path.write_text(yaml.safe_dump({**listed, "path": str(place), "val": listed["train"]}), encoding="utf-8")
    return path


@pytest.mark.e2e
@pytest.mark.parametrize(("make", "images"), [(nuclei, 210), (coco128, 128)])
def test_trains_with_no_flag_but_data(tmp_path, capsys, make, images):
    code = run(["train", f"data={make(tmp_path)}", *HOW_LONG, f"project={tmp_path}"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert f"{images} training" in err
    assert (tmp_path / "train" / "report.html").is_file()
    assert (tmp_path / "train" / "weights" / "best.safetensors").is_file()
    assert "AP50" in out
