"""The command line as a whole: help, exit codes, one-line errors, purity of JSON, interrupts, broken pipes."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest

from mamba_yolo.cli import entry
from mamba_yolo.cli.commands import COMMANDS
from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.config import TrainConfig
from mamba_yolo.errors import DataError


def mamba_yolo(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "mamba_yolo", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture
def stand_in(monkeypatch):
    """Replace what a command does, not how it is read."""

    def replace(name, run):
        module = types.ModuleType(f"stand_in_{name}")
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, name, COMMANDS[name]._replace(module=module.__name__))

    return replace


def test_help_lists_every_command(capsys):
    for words in ([], ["--help"], ["-h"]):
        assert entry.run(words) == 0
        shown = capsys.readouterr().out
        assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_lists_its_options_without_torch(name):
    code = (
        "import sys; from mamba_yolo.cli.entry import run\n"
        f"assert run([{name!r}, '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for option in COMMANDS[name].config.__dataclass_fields__:
        assert option == "augment" or f"--{option.replace('_', '-')}" in done.stdout


def test_help_needs_neither_torch_nor_tyro():
    code = (
        "import sys; from mamba_yolo.cli.entry import run; run([])\n"
        "heavy = {'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)


def test_options_arrive(stand_in):
    seen = []
    stand_in("train", lambda config: seen.append(config) or Outcome())
    words = ["train", "d.yaml", "epochs=3", "--lr0", "0.1", "mosaic=0.5", "resume=True", "--no-plots", "name=a b"]
    assert entry.run(words) == 0
    expected = TrainConfig(data="d.yaml", epochs=3, lr0=0.1, resume=True, plots=False, name="a b")
    assert seen[0].augment.mosaic == 0.5
    assert {**vars(seen[0]), "augment": None} == {**vars(expected), "augment": None}


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["trian"], 2, "unknown command 'trian'; did you mean 'train'?"),
        (["train", "epoch=3"], 2, "unknown option 'epoch'; did you mean 'epochs'?"),
        (["train", "--epoch", "3"], 2, "unknown option 'epoch'; did you mean 'epochs'?"),
        (
            ["train", "epochs=three"],
            1,
            "--epochs: invalid literal for int() with base 10: 'three' (see mamba-yolo train --help)",
        ),
        (["train", "epochs=0"], 1, "epochs must be between 1 and 1e+09, got 0 (see mamba-yolo train --help)"),
        (
            ["train", "imgsz=100"],
            1,
            "imgsz must be a positive multiple of 32, got 100; try 96 (see mamba-yolo train --help)",
        ),
        (["train", "mosaic=2"], 1, "mosaic must be between 0 and 1, got 2.0 (see mamba-yolo train --help)"),
        (["train", "lr0=nan"], 1, "lr0 must be between 1e-12 and 10, got nan (see mamba-yolo train --help)"),
        (["predict", "resume=True"], 2, None),
        (["export"], 1, "export to onnx is not in this version; weights are plain safetensors files meanwhile"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(capsys, words, code, line):
    assert entry.run(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("mamba-yolo: error: ")
    assert line is None or err == f"mamba-yolo: error: {line}\n"


def test_an_invalid_choice_names_the_choices(capsys):
    assert entry.run(["train", "optimizer=adam"]) == 1
    assert "'auto', 'sgd', 'adamw'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["val"], ["val", "--json"]])
def test_errors_of_commands(capsys, stand_in, words):
    def fail(config):
        raise DataError("a.yaml:\n  no such file")

    stand_in("val", fail)
    assert entry.run(words) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "mamba-yolo: error: a.yaml: no such file\n")
    assert entry.run([*words, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_errors_are_one_line_too(capsys, stand_in):
    stand_in("val", lambda config: 1 / 0)
    assert entry.run(["val"]) == 1
    err = capsys.readouterr().err
    assert err == "mamba-yolo: error: unexpected ZeroDivisionError: division by zero; run with --debug to see where\n"


def test_json_is_all_there_is_on_standard_output(capsys, stand_in):
    def chatty(config):
        sys.stdout.write("working\n")
        return Outcome(["words for people"], {"a": 1, "b": [None, 0.5]}, 1)

    stand_in("check", chatty)
    assert entry.run(["check", "json=True"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 1, "b": [None, 0.5]}
    assert err == "working\n"
    assert entry.run(["check"]) == 1
    assert "words for people" in capsys.readouterr().out


def test_tables_show_markup_as_it_is(capsys, stand_in):
    stand_in("check", lambda config: Outcome([table("t", ("file", "n"), [("[red]x[/red].jpg", 1200)]), "[bold]"]))
    assert entry.run(["check"]) == 0
    out = capsys.readouterr().out
    assert "[red]x[/red].jpg" in out
    assert "1,200" in out
    assert "[bold]" in out


def test_version():
    for words in (["version"], ["--version"]):
        done = mamba_yolo(*words)
        assert done.returncode == 0
        assert done.stdout.startswith("mamba-yolo 0.")
        assert "native module 0." in done.stdout


def test_interrupts_end_with_130_and_one_line(stand_in, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    stand_in("train", interrupted)
    assert entry.run(["train"]) == 130
    assert capsys.readouterr().err == "mamba-yolo: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_a_real_process():
    words = ["benchmark", "model=n", "imgsz=64", "runs=1000000", "device=cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mamba_yolo", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(4)  # past the imports, into the runs
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()  # where interrupts are ignored it would run on beside all later tests
    assert process.returncode == 130
    assert err == "mamba-yolo: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell with pipes")
@pytest.mark.parametrize("words", ["--help", "version", "train --help"])
def test_a_closed_pipe_is_quiet(words):
    # the reader is gone before the first byte
    command = f"{{ sleep 0.2; {sys.executable} -m mamba_yolo {words}; echo code $? >&2; }} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "code 141\n"


@pytest.mark.parametrize("is_collecting", [True, False])
def test_the_collector_of_garbage_is_left_as_it_was(is_collecting):
    try:
        (gc.enable if is_collecting else gc.disable)()
        assert entry.run(["version"]) == 0
        assert gc.isenabled() == is_collecting
    finally:
        gc.enable()
