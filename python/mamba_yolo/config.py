"""Every option of the detector and of the commands: frozen dataclasses, checked when made.

Standard library only, so that `mamba-yolo --help` needs neither torch nor numpy. The same dataclass is the command
line, the keyword arguments of the Python API and the saved `args.yaml`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mamba_yolo.augmentation import AugmentConfig
from mamba_yolo.checks import (
    STRIDE_MULTIPLE_PX,
    accept_false,
    check_imgsz,
    check_literals,
    check_range,
    check_types,
    unknown_name,
)
from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Task = Literal["detect", "segment"]
Variant = Literal["v1", "v2"]
Downsampling = Literal["clue_merge", "conv"]
ChannelMlp = Literal["rg", "mlp", "conv_mlp", "res_conv_mlp", "gated_mlp"]
NeckBlock = Literal["odss", "c2f"]
Pyramid = Literal["p3-p5", "p2-p5"]
Initialization = Literal["release", "mamba"]
Optimizer = Literal["auto", "sgd", "adamw", "muon"]
Dtype = Literal["float32", "bfloat16"]
Cache = Literal["off", "ram", "disk"]
Partners = Literal["recent", "uniform"]
AmpDtype = Literal["auto", "bfloat16", "float16"]

AUTO_BATCH = -1
TRAINED_IMGSZ = 0  # the side that a model was trained with
PACKAGED_MODEL = "mamba-yolo-n-bccd"  # trained weights inside the package
FREEZABLE_PARTS = 10  # stem, four stages, three downsamplings, pooling, neck


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network (design of arXiv 2406.05835; ablation switches of its tables)."""

    depth: float = 0.33
    """Depth factor d: a stage of n blocks gets max(round(n * d), 1)."""
    width: float = 0.25
    """Width factor w: channels are ceil(min(c, max_channels) * w / 8) * 8."""
    max_channels: int = 1024
    """Channel cap m, before the width factor."""
    num_classes: int = 80
    """Number of classes."""
    task: Task = "detect"
    """Boxes only, or boxes and masks."""
    stage_depths: tuple[int, int, int, int] = (3, 3, 9, 3)
    """Blocks per stage before the depth factor."""
    local_spatial: bool = True
    """LSBlock in every ODSSBlock (v1), or none (v2)."""
    channel_mlp: ChannelMlp = "rg"
    """Channel mixer of the ODSSBlock."""
    downsampling: Downsampling = "clue_merge"
    """Vision clue merge, or a 3x3 stride-2 convolution."""
    neck_block: NeckBlock = "odss"
    """Block of the PAFPN."""
    pyramid: Pyramid = "p3-p5"
    """Levels the head sees: strides 8 to 32, or 4 to 32."""
    state_size: int = 16
    """States N per channel of the selective scan."""
    initialization: Initialization = "release"
    """Scan parameters as the release starts them, or as Mamba does (A_n = -n, log-uniform step)."""
    dropout: float = 0.0
    """Dropout after SS2D."""
    drop_path: float = 0.0
    """Stochastic depth on both residual branches of an ODSSBlock."""

    def __post_init__(self) -> None:
        """Check every domain."""
        check_literals(self)
        check_range("num_classes", self.num_classes, 1, 65_536)
        check_range("width", self.width, 1e-3, 16)
        check_range("depth", self.depth, 1e-3, 16)
        check_range("max_channels", self.max_channels, 8, 1_000_000)
        check_range("state_size", self.state_size, 1, 1024)
        check_range("dropout", self.dropout, 0, 0.999)
        check_range("drop_path", self.drop_path, 0, 0.999)
        if len(self.stage_depths) != 4 or min(self.stage_depths) < 1:
            raise ConfigError(f"stage_depths must be four positive numbers, got {self.stage_depths}")


@dataclass(frozen=True)
class TrainConfig:
    """Options of `mamba-yolo train`; defaults are those of the official release."""

    data: str = ""
    """Data set: data.yaml, a folder, or an annotation file (YOLO, COCO JSON and Pascal VOC are recognised)."""
    model: str = "mamba-yolo-t"
    """Preset (mamba-yolo-{n,t,b,l}[-seg]) or a weights file to start from."""
    variant: Variant = "v1"
    """v1: the released design with the local-spatial block; v2: the AAAI text without it."""
    initialization: Initialization = "release"
    """Scan parameters of a preset: as the release starts them, or as Mamba does."""
    freeze: int = 0
    """First parts of the network that are not trained: 1 the stem, 9 the backbone, 10 all but the head."""
    epochs: int = 100
    """Passes over the training split."""
    time: float = 0.0
    """Hours after which no epoch begins any more; 0: no limit. The rates are those of the full number of epochs."""
    imgsz: int = 640
    """Side of the square network input in pixels, a multiple of 32."""
    batch: int = 16
    """Images per step, of all processes together; -1: what fits into two thirds of a GPU's memory, 16 on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; several, such as 0,1, train together, one process each."""
    sync_bn: bool = False
    """With several processes: batch norms see the whole batch instead of each process's share of it."""
    workers: int = 0
    """Threads that load images, per process; 0 means as many as torch uses, at most 8."""
    cache: Cache = "off"
    """Keep decoded pictures: off (or False), ram, or disk (below MAMBA_YOLO_CACHE); each takes what fits into half."""
    partners: Partners = "recent"
    """Other pictures of a mosaic: recent, decoded a moment ago, or uniform from all, which wants a cache."""
    project: str = "runs"
    """Folder of all runs."""
    name: str = "train"
    """Folder of this run inside the project; a number is added when it exists."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""
    resume: bool = False
    """Go on from the run's weights/last.safetensors (or from --model, when that is such a file)."""
    optimizer: Optimizer = "auto"
    """auto: muon below 10,000 steps, else sgd."""
    lr0: float = 0.01
    """First learning rate; for adamw give one of about 0.001."""
    lrf: float = 0.01
    """Last learning rate as a fraction of the first."""
    cos_lr: bool = False
    """Learning rate along half a cosine instead of a straight line."""
    momentum: float = 0.937
    """Momentum of SGD and Muon, beta1 of AdamW."""
    weight_decay: float = 5e-4
    """Weight decay at the nominal batch; never on biases, norms, A_logs, Ds."""
    nbs: int = 0
    """Nominal batch: gradients are accumulated up to it. 0: 64, or no accumulation by muon."""
    warmup_epochs: float = 3.0
    """Epochs of linear warm-up."""
    warmup_momentum: float = 0.8
    """Momentum at the start of the warm-up."""
    warmup_bias_lr: float = 0.1
    """Learning rate of biases at the start of the warm-up."""
    clip: float = 10.0
    """Largest gradient norm."""
    ema: float = 0.9999
    """Decay of the averaged weights."""
    box: float = 7.5
    """Gain of the box loss."""
    cls: float = 0.5
    """Gain of the class loss."""
    class_weights: float = 0.0
    """Weight classes in their loss by how rare their boxes are, to this power: 0 all alike, 1 in full."""
    dfl: float = 1.5
    """Gain of the distribution focal loss."""
    close_mosaic: int = 10
    """Epochs at the end without mosaic, mixup, cutmix and copy-paste."""
    patience: int = 100
    """Epochs without improvement after which training stops."""
    val_period: int = 1
    """Validate every so many epochs (and always after the last)."""
    save_period: int = 0
    """Also keep weights/epochN.safetensors every so many epochs; 0: never."""
    amp: bool = True
    """Mixed precision, as `amp_dtype` says; the scan's state stays float32."""
    amp_dtype: AmpDtype = "auto"
    """auto: bfloat16 on GPUs that have it, float16 on others, float32 on a CPU; or one of them on any device."""
    iou: float = 0.7
    """NMS threshold of the validation."""
    max_det: int = 300
    """Most detections per image in the validation."""
    plots: bool = True
    """Write report.html and pictures into the run folder."""
    callbacks: tuple[str, ...] = ()
    """Who listens: tensorboard, wandb, mlflow, or a class of your own as package.module:Class."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation."""

    def __post_init__(self) -> None:
        """Check every domain."""
        accept_false(self, "cache")
        check_literals(self)
        check_imgsz(self.imgsz)
        for name in ("epochs", "patience", "val_period", "max_det"):
            check_range(name, getattr(self, name), 1, 10**9)
        if self.batch != AUTO_BATCH:
            check_range("batch", self.batch, 1, 10**9)
        for name in ("nbs", "workers", "close_mosaic", "warmup_epochs", "weight_decay", "box", "cls", "dfl", "seed"):
            check_range(name, getattr(self, name), 0, 2**63 - 1)
        for name in ("time", "save_period"):
            check_range(name, getattr(self, name), 0, 10**9)
        check_range("freeze", self.freeze, 0, FREEZABLE_PARTS)
        check_range("class_weights", self.class_weights, 0, 1)
        for name in ("lrf", "momentum", "warmup_momentum", "warmup_bias_lr", "ema", "iou"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("lr0", self.lr0, 1e-12, 10)
        check_range("clip", self.clip, 1e-12, 1e12)
        given: Any = self.callbacks  # a list and a single name are welcome
        object.__setattr__(self, "callbacks", (given,) if isinstance(given, str) else tuple(given))


@dataclass(frozen=True)
class ValConfig:
    """Options of `mamba-yolo val`."""

    data: str = ""
    """Data set, as for train."""
    model: str = "mamba-yolo-t"
    """Weights file (or preset, for a look at random weights)."""
    split: str = "val"
    """Which split: train, val or test."""
    imgsz: int = TRAINED_IMGSZ
    """Side of the square network input in pixels; 0: as the model was trained, 640 for presets."""
    batch: int = 16
    """Images per step."""
    conf: float = 0.001
    """Lowest score kept."""
    iou: float = 0.7
    """NMS threshold."""
    max_det: int = 300
    """Most detections per image."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Dtype = "float32"
    """float32, or bfloat16 where the device has it (quicker, scores differ a little; scan state float32)."""
    workers: int = 0
    """Threads that load images; 0 means as many as torch uses, at most 8."""
    cache: Cache = "off"
    """Keep decoded pictures: off (or False), ram, or disk (below MAMBA_YOLO_CACHE); each takes what fits into half."""
    rect: bool = False
    """Batches sorted by aspect ratio and no larger than their pictures need: quicker, scores differ a little."""
    project: str = "runs"
    """Folder of all runs."""
    name: str = "val"
    """Folder of this run inside the project; a number is added when it exists."""
    plots: bool = True
    """Write report.html and pictures into the run folder."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        """Check every domain."""
        accept_false(self, "cache")
        check_literals(self)
        check_imgsz(self.imgsz or STRIDE_MULTIPLE_PX)
        check_range("batch", self.batch, 1, 10**6)
        check_range("max_det", self.max_det, 0, 10**6)
        check_range("conf", self.conf, 0, 1)
        check_range("iou", self.iou, 0, 1)
        check_range("workers", self.workers, 0, 4096)


@dataclass(frozen=True)
class PredictConfig:
    """Options of `mamba-yolo predict`."""

    source: str = ""
    """Image file, folder, glob, or a .txt list of files."""
    model: str = PACKAGED_MODEL
    """Weights file; without one, the packaged weights, which find blood cells and nothing else."""
    imgsz: int = TRAINED_IMGSZ
    """Longest side of the network input in pixels; 0: as the model was trained, 640 for presets."""
    conf: float = 0.25
    """Lowest score shown."""
    iou: float = 0.7
    """NMS threshold."""
    max_det: int = 300
    """Most detections per image."""
    batch: int = 1
    """Images per step."""
    classes: tuple[int, ...] = ()
    """Only these classes; empty means all."""
    agnostic: bool = False
    """Suppress across classes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Dtype = "float32"
    """float32, or bfloat16 where the device has it (quicker, scores differ a little; scan state float32)."""
    retina_masks: bool = True
    """Masks in pixels of the picture; False: at the size of the network's input (coarser outlines, smaller arrays)."""
    project: str = "runs"
    """Folder of all runs."""
    name: str = "predict"
    """Folder of this run inside the project; a number is added when it exists."""
    save: bool = True
    """Write pictures with boxes."""
    save_json: bool = False
    """Write predictions.json and, in COCO's form for results, coco.json beside the pictures."""

    def __post_init__(self) -> None:
        """Check every domain."""
        check_literals(self)
        check_imgsz(self.imgsz or STRIDE_MULTIPLE_PX)
        check_range("batch", self.batch, 1, 10**6)
        check_range("max_det", self.max_det, 0, 10**6)
        check_range("conf", self.conf, 0, 1)
        check_range("iou", self.iou, 0, 1)
        given: Any = self.classes  # a list and a single class are welcome
        object.__setattr__(self, "classes", (given,) if isinstance(given, int) else tuple(given))
        for index in self.classes:
            check_range("classes", index, 0, 65_535)


AnyConfig = TypeVar("AnyConfig")


def from_flat(cls: type[AnyConfig], values: Mapping[str, Any]) -> AnyConfig:
    """Build a config from flat names, reaching into nested ones (`mosaic=0` sets `augment.mosaic`).

    Raises:
        ConfigError: an unknown name (the message offers the nearest), a wrong type, or a value outside its domain.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    nested = {n: f.default_factory for n, f in fields.items() if dataclasses.is_dataclass(f.default_factory)}
    inner_of = {f.name: n for n, inner in nested.items() for f in dataclasses.fields(inner)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    inner_values: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name in nested and isinstance(value, dict):
            inner_values.setdefault(name, {}).update(value)
        elif name in fields:
            chosen[name] = value
        elif name in inner_of:
            inner_values.setdefault(inner_of[name], {})[name] = value
        else:
            raise ConfigError(unknown_name(name, [*fields, *inner_of]))
    for name, inner in inner_values.items():
        chosen[name] = from_flat(nested[name], inner)  # type: ignore[arg-type]
    check_types(fields, chosen)
    return cls(**chosen)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a config, ready for YAML or JSON."""
    return dataclasses.asdict(config)
