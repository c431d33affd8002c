"""Every command with its options; the options of train, val and predict are those of the Python API.

Standard library only: `mamba-yolo --help` reads nothing else. Test: tests/cli/test_entry.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mamba_yolo.augmentation import AugmentConfig
from mamba_yolo.checks import check_imgsz, check_range
from mamba_yolo.config import PredictConfig, TrainConfig, ValConfig
from mamba_yolo.errors import ConfigError
from mamba_yolo.explanation import ExplainConfig

LabelFormat = Literal["yolo", "coco", "voc"]
Suite = Literal["latency", "ablation"]


@dataclass(frozen=True)
class InfoConfig:
    """Options of `mamba-yolo info`."""

    model: str = "mamba-yolo-t"
    """Preset (mamba-yolo-{n,t,b,l}[-seg]) or a weights file."""
    variant: Literal["v1", "v2"] = "v1"
    """Variant of a preset."""
    num_classes: int = 80
    """Classes of a preset."""
    imgsz: int = 640
    """Side of the square network input that FLOPs are counted for."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        """Check every domain."""
        check_imgsz(self.imgsz)
        check_range("num_classes", self.num_classes, 1, 65_536)


@dataclass(frozen=True)
class DoctorConfig:
    """Options of `mamba-yolo doctor`."""

    json: bool = False
    """Print one JSON object on standard output and nothing else there."""


@dataclass(frozen=True)
class CheckConfig:
    """Options of `mamba-yolo check`."""

    data: str = ""
    """Data set: data.yaml, a folder, or an annotation file."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""
    show: bool = False
    """Write pictures of training batches with their boxes and polygons."""
    imgsz: int = 640
    """Side of the pictures in pixels, a multiple of 32."""
    seed: int = 0
    """Seed of order and augmentation."""
    project: str = "runs"
    """Folder of all runs."""
    name: str = "check"
    """Folder of the pictures inside the project; a number is added when it exists."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the pictures, as for train."""

    def __post_init__(self) -> None:
        """Check every domain."""
        check_imgsz(self.imgsz)
        check_range("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True)
class ConvertConfig:
    """Options of `mamba-yolo convert`."""

    source: str = ""
    """Data set (data.yaml, a folder, an annotation file), an official .pt, or a .safetensors of ours."""
    target: str = ""
    """Folder to write, which must not exist yet, or be empty; of weights the .safetensors to write."""
    to: LabelFormat = "yolo"
    """Format to write a data set in; official weights become ours, ours get official key names."""


@dataclass(frozen=True)
class DemoConfig:
    """Options of `mamba-yolo demo`."""

    project: str = "runs"
    """Folder of all runs."""
    name: str = "demo"
    """Folder of this run inside the project; a number is added when it exists."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""


@dataclass(frozen=True)
class ExportConfig:
    """Options of `mamba-yolo export`."""

    model: str = ""
    """Weights file."""
    format: str = "onnx"
    """Format to write."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """Options of `mamba-yolo benchmark`."""

    model: tuple[str, ...] = ("mamba-yolo-n", "mamba-yolo-t")
    """Presets or weights files."""
    imgsz: tuple[int, ...] = (320, 640)
    """Sides of the square network input."""
    batch: int = 1
    """Images per step."""
    runs: int = 10
    """Timed repetitions, after one that is not."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    suite: Suite = "latency"
    """latency, or ablation: `mamba-yolo benchmark --suite ablation --help` lists its options."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        """Check every domain."""
        for side in self.imgsz:
            check_imgsz(side)
        check_range("batch", self.batch, 1, 10**6)
        check_range("runs", self.runs, 1, 10**6)


@dataclass(frozen=True)
class AblationConfig(TrainConfig):
    """Options of `mamba-yolo benchmark --suite ablation`: those of train, for every row of the table."""

    suite: Suite = "ablation"
    """ablation: train the networks of the papers' ablations; without data, count their parameters and FLOPs."""
    seeds: tuple[int, ...] = (0,)
    """Every row is trained once with each."""
    only: tuple[str, ...] = ()
    """Only these rows of the table; empty means all."""
    name: str = "ablation"
    """Folder of the suite inside the project; the same command goes on in it."""
    plots: bool = False
    """Write report.html and pictures into the folder of every run."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        """Check every domain."""
        super().__post_init__()
        for name, instead in NOT_OF_A_SUITE.items():
            if getattr(self, name) != getattr(TrainConfig, name):
                raise ConfigError(f"{name} is not an option of the ablation suite: {instead}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be one or more different numbers, got {self.seeds}")
        for seed in self.seeds:
            check_range("seeds", seed, 0, 2**63 - 1)


NOT_OF_A_SUITE = {
    "seed": "give seeds=0,1",
    "resume": "it goes on by itself, leave it out",
    "variant": "it is a row of the table, give only=base,v2",
    "initialization": "it is a row of the table, give only=base,mamba-init",
}


@dataclass(frozen=True)
class VersionConfig:
    """`mamba-yolo version` has no options."""


class Command(NamedTuple):
    """Options, one line of help, the module of `mamba_yolo.cli` whose `run(config)` does it, options without names."""

    config: type[Any]
    summary: str
    module: str
    num_bare: int = 1


COMMANDS = {
    "train": Command(TrainConfig, "Train a detector on your photographs", "mamba_yolo.cli.train"),
    "val": Command(ValConfig, "Measure a model on a data set", "mamba_yolo.cli.val"),
    "predict": Command(PredictConfig, "Find objects in images and draw them", "mamba_yolo.cli.predict"),
    "explain": Command(ExplainConfig, "Draw what a model looks at in a photograph", "mamba_yolo.cli.explain"),
    "info": Command(InfoConfig, "Count parameters and FLOPs of a model", "mamba_yolo.cli.info"),
    "doctor": Command(DoctorConfig, "Show what this machine will use, and test it", "mamba_yolo.cli.doctor"),
    "check": Command(CheckConfig, "Look for faults in a data set", "mamba_yolo.cli.check"),
    "convert": Command(ConvertConfig, "Rewrite a data set, or official weights", "mamba_yolo.cli.convert", num_bare=2),
    "demo": Command(DemoConfig, "Train, validate and predict on packaged photographs", "mamba_yolo.cli.demo"),
    "export": Command(ExportConfig, "Write a model in another format (in a later version)", "mamba_yolo.cli.export"),
    "benchmark": Command(BenchmarkConfig, "Time models, or train the papers' ablations", "mamba_yolo.cli.benchmark"),
    "version": Command(VersionConfig, "Print the version", "mamba_yolo.cli.version"),
}

SUITES = {
    "latency": COMMANDS["benchmark"],
    "ablation": Command(AblationConfig, "Train the networks of the papers' ablations", "mamba_yolo.cli.ablation"),
}
