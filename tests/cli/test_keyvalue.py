"""One spelling for tyro from every spelling of users."""

import pytest

from mamba_yolo.cli.commands import BenchmarkConfig, ConvertConfig, VersionConfig
from mamba_yolo.cli.keyvalue import rewrite
from mamba_yolo.config import PredictConfig, TrainConfig
from mamba_yolo.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    "words",
    [["epochs=3"], ["--epochs", "3"], ["--epochs=3"]],
)
def test_three_spellings(words):
    assert rewrite(words, TrainConfig) == ["--epochs=3"]


@pytest.mark.parametrize(
    ("words", "uniform"),
    [
        (["weight_decay=0.1"], ["--weight-decay=0.1"]),
        (["--weight-decay", "0.1"], ["--weight-decay=0.1"]),
        (["--weight_decay", "0.1"], ["--weight-decay=0.1"]),
        (["mosaic=0.5"], ["--mosaic=0.5"]),
        (["data=a=b.yaml"], ["--data=a=b.yaml"]),
        (["--data", "x=y.yaml"], ["--data=x=y.yaml"]),
        (["name=my run"], ["--name=my run"]),
        (["data=/some/where=else/d.yaml"], ["--data=/some/where=else/d.yaml"]),
        (["lr0=-1"], ["--lr0=-1"]),
        (["--lr0", "-1"], ["--lr0=-1"]),
        (["data="], ["--data="]),
        (["resume=True"], ["--resume"]),
        (["resume=false"], ["--no-resume"]),
        (["--resume"], ["--resume"]),
        (["--resume", "epochs=3"], ["--resume", "--epochs=3"]),
        (["--resume", "False"], ["--no-resume"]),
        (["--no-resume"], ["--no-resume"]),
        (["--no-plots", "--epochs", "2"], ["--no-plots", "--epochs=2"]),
        (["data.yaml", "epochs=3"], ["--data=data.yaml", "--epochs=3"]),
        ([], []),
    ],
)
def test_train(words, uniform):
    assert rewrite(words, TrainConfig) == uniform


@pytest.mark.parametrize(
    ("words", "uniform"),
    [
        (["classes=0,2"], ["--classes", "0", "2"]),
        (["classes=[0, 2]"], ["--classes", "0", "2"]),
        (["--classes", "0", "2", "conf=0.1"], ["--classes", "0", "2", "--conf=0.1"]),
        (["--classes", "0,2", "--conf", "0.1"], ["--classes", "0", "2", "--conf=0.1"]),
        (["classes="], ["--classes"]),
        (["photos/a=b.jpg"], ["--source=photos/a=b.jpg"]),
    ],
)
def test_predict(words, uniform):
    assert rewrite(words, PredictConfig) == uniform


def test_lists_of_names():
    assert rewrite(["model=n,t", "imgsz=320"], BenchmarkConfig) == ["--model", "n", "t", "--imgsz", "320"]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["epoch=3"], "unknown option 'epoch'; did you mean 'epochs'?"),
        (["--epoch", "3"], "did you mean 'epochs'"),
        (["mosiac=1"], "did you mean 'mosaic'"),
        (["-e", "3"], "unknown option 'e'"),
        (["--no-epochs"], "unknown option 'no_epochs'"),
        (["a.yaml", "b.yaml"], r"unexpected 'b\.yaml'"),
    ],
)
def test_unknown_options(words, match):
    with pytest.raises(UsageError, match=match.replace("?", r"\?")):
        rewrite(words, TrainConfig)


def test_a_command_without_options_takes_none():
    with pytest.raises(UsageError, match="unexpected 'now'"):
        rewrite(["now"], VersionConfig)


@pytest.mark.parametrize(
    ("words", "match"),
    [(["--epochs"], "--epochs needs a value"), (["resume=maybe"], "resume must be True or False, got 'maybe'")],
)
def test_missing_and_impossible_values(words, match):
    with pytest.raises(ConfigError, match=match):
        rewrite(words, TrainConfig)


def test_as_many_bare_words_as_the_command_allows():
    assert rewrite(["a.pt", "b.safetensors"], ConvertConfig, 2) == ["--source=a.pt", "--target=b.safetensors"]
    assert rewrite(["a", "target=b", "to=coco"], ConvertConfig, 2) == ["--source=a", "--target=b", "--to=coco"]
    with pytest.raises(UsageError, match="unexpected 'c'"):
        rewrite(["a", "b", "c"], ConvertConfig, 2)
    with pytest.raises(UsageError, match="unexpected 'b'"):
        rewrite(["a", "b"], PredictConfig)
