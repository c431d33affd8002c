"""Our commands and Python in migration.md, explain.md and comparison.md of docs run as printed, but for less work."""

import re
import shlex
import shutil

import pytest

from helpers import ROOT
from mamba_yolo import MambaYOLO
from mamba_yolo.cli.commands import COMMANDS
from mamba_yolo.cli.entry import run
from mamba_yolo.cli.keyvalue import rewrite
from mamba_yolo.engine.checkpoint import Checkpoint, save
from mamba_yolo.models import build_detector
from mamba_yolo.models.official import export_state_dict
from official_files import official_bytes
from test_readme import folder  # noqa: F401  (a fixture)

CLASSES = {0: "RBC", 1: "WBC", 2: "Platelets"}  # of the packaged data set

PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("migration.md", "explain.md", "comparison.md")}
TEXT = "\n".join(PAGES.values())
COMMAND = re.compile(r"(?:^|`)mamba-yolo ([a-z]+(?: [^`#\n]+)?)", re.MULTILINE)
LINES = [line.strip() for line in COMMAND.findall(TEXT)]
LESS = {"train": ["epochs=1", "imgsz=64", "batch=2", "plots=false"], "val": ["imgsz=64"], "explain": ["imgsz=64"]}
LESS |= {"benchmark": ["imgsz=64", "runs=1"], "info": ["imgsz=64"], "predict": ["imgsz=64"]}
RUN = [line for line in LINES if "=" in line and line.split()[0] not in ("train", "convert")]
BLOCKS = [block for page in PAGES.values() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


@pytest.fixture
def place(folder):  # noqa: F811
    """The README's folder, with weights for the classes of its data set and a photograph under the pages' name."""
    model = MambaYOLO("mamba-yolo-n", num_classes=len(CLASSES))
    save(folder / "best.safetensors", Checkpoint(model.module.config, CLASSES, model.module.state_dict(), imgsz=64))
    shutil.copy(folder / "photos/a.jpg", folder / "photo.jpg")
    return folder


def test_there_are_commands():
    assert len(LINES) >= 12
    assert len(BLOCKS) == 2
    assert {line.split()[0] for line in LINES} >= {"train", "val", "predict", "convert", "explain", "check", "info"}


@pytest.mark.parametrize("line", LINES)
def test_every_option_is_known(line):
    name, *words = shlex.split(line)
    rewrite(words, COMMANDS[name].config, COMMANDS[name].num_bare)


@pytest.mark.parametrize("line", RUN)
def test_commands_run(place, line):
    name, *words = shlex.split(line)
    small = [word for word in LESS.get(name, []) if word.split("=")[0] not in ("model",)]
    assert run([name, *[w for w in words if not w.startswith("imgsz")], *small]) in (
        (0, 1) if name == "check" else (0,)
    )


@pytest.mark.e2e
def test_train(place):
    first = next(shlex.split(line) for line in LINES if line.startswith("train") and "epochs" in line)
    assert run([*(w for w in first if not w.startswith("epochs")), *LESS["train"]]) == 0
    assert (place / "runs/train/weights/last.safetensors").exists()  # the name that the line on resuming uses


def test_conversions(place):
    state = export_state_dict(build_detector("n", 2).state_dict())
    (place / "official.pt").write_bytes(official_bytes(state, ["a", "b"]))
    conversions = [shlex.split(line) for line in LINES if line.startswith("convert")]
    assert len(conversions) == 3
    for words in conversions:
        assert run(words) == 0, words


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run(number):
    exec(compile(BLOCKS[number], f"docs block {number}", "exec"), {})  # noqa: S102  (our own pages)
