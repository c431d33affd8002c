"""MambaYOLO: one object that predicts, trains and validates. It delegates; each verb lives in its own room.

Test: tests/test_api.py.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.checks import check_given
from mamba_yolo.config import PredictConfig, TrainConfig, ValConfig, from_flat
from mamba_yolo.data import Loader, open_dataset
from mamba_yolo.engine.checkpoint import load_model
from mamba_yolo.engine.device import pick_device
from mamba_yolo.engine.explain import Explanation, explain
from mamba_yolo.engine.packaged import weights_file
from mamba_yolo.engine.pictures import Pictures
from mamba_yolo.engine.predict import predict, save_results
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.report import report_validation
from mamba_yolo.engine.runs import new_run_folder
from mamba_yolo.engine.train import train
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import NotYetError
from mamba_yolo.explanation import ExplainConfig
from mamba_yolo.losses import DetectionLoss, loss_of
from mamba_yolo.models import flops

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mamba_yolo.config import Variant
    from mamba_yolo.data import Hook
    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.engine.metrics import Metrics
    from mamba_yolo.models import Detector
    from mamba_yolo.results import Results


class MambaYOLO:
    """A Mamba-YOLO detector with its class names.

    Args:
        model: preset such as mamba-yolo-t (random weights), mamba-yolo-n-bccd (trained on blood cells, in the package),
            a safetensors file of ours, or an official .pt file.
        num_classes: classes of a preset; files know their own.
        variant: v1 or v2 of a preset; files know their own.
        device: auto, cpu, cuda or cuda:N.
        seed: of the random weights of a preset.

    Example:
        >>> model = MambaYOLO("best.safetensors")  # doctest: +SKIP
        >>> model.predict("photo.jpg")[0].save("found.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path = "mamba-yolo-t",
        *,
        num_classes: int | None = None,
        variant: Variant | None = None,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.device = device
        self.run_dir: Path | None = None  # of the last training or validation that wrote files
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._load(model, num_classes, variant)

    def _load(self, model: str | Path, num_classes: int | None = None, variant: Variant | None = None) -> None:
        loaded = load_model(model, num_classes=num_classes, variant=variant)
        self._source = str(model)
        self.module: Detector = loaded.detector.to(pick_device(self.device))
        self.names: dict[int, str] = dict(loaded.names)
        self.task: str = loaded.task
        self.imgsz = loaded.imgsz

    def predict(self, source: Any, *, stream: bool = False, **options: Any) -> list[Results] | Iterator[Results]:
        """Detect objects in images.

        Args:
            source: path, folder, glob, .txt list, list, PIL image, uint8 RGB array, tensor or bytes.
            stream: return an iterator that holds one batch at a time, instead of a list.
            options: fields of `PredictConfig`: conf, iou, imgsz, max_det, batch, classes, …; pictures are written
                only with save=True.
        """
        config = from_flat(PredictConfig, {"save": False, **options})
        config = dataclasses.replace(config, imgsz=config.imgsz or self.imgsz)
        results = predict(self._on(config.device), self.names, source, config)
        if config.save or config.save_json:
            results = save_results(results, new_run_folder(config.project, config.name), config)
        return results if stream else list(results)

    __call__ = predict

    def train(self, *, hook: Hook | None = None, callbacks: Sequence[Callback | str] = (), **options: Any) -> Metrics:
        """Train on a data set and hold the best weights afterwards.

        Args:
            hook: your own change of every finished training picture, `hook(image, boxes_xyxy, classes)` returning the
                three again: uint8 (H, W, 3) RGB, (n, 4) pixels, (n,). It runs one picture after the other in the thread
                that trains, so its time comes on top of every step: 1 ms is 16 ms per batch of 16. Not saved: give it
                again to resume.
            callbacks: who hears of every epoch: objects of `mamba_yolo.engine.callbacks.Callback`, or names as on the
                command line (tensorboard, wandb, mlflow, package.module:Class).
            options: fields of `TrainConfig`, augmentation included: data, epochs, imgsz, batch, seed, resume, …
        """
        given = [callbacks] if isinstance(callbacks, str) else callbacks
        named = tuple(c for c in given if isinstance(c, str))
        listeners = [c for c in given if not isinstance(c, str)]
        config = from_flat(TrainConfig, {"model": self._source, "device": self.device, "callbacks": named, **options})
        if not config.resume:  # a resumed run knows its data
            check_given("data", config.data)
        is_preset = weights_file(self._source) is None  # its classes have numbers for names
        result = train(
            config, model=self.module, names=None if is_preset else self.names, callbacks=listeners, hook=hook
        )
        self.run_dir = result.run_dir
        self._load(result.best)
        return result.best_metrics

    def val(self, **options: Any) -> Metrics:
        """Measure on a split of a data set: `.map50_95`, `.map50`, `.map75`, `.per_class`, `.to_dict()`; masks: `.seg`.

        Args:
            options: fields of `ValConfig`: data, split, imgsz, batch, conf, iou, …; report.html and pictures are
                written, into `.run_dir`, only with plots=True.
        """
        config = from_flat(ValConfig, {"model": self._source, "plots": False, **options})
        config = dataclasses.replace(config, imgsz=config.imgsz or self.imgsz)
        check_given("data", config.data)
        detector = self._on(config.device)
        dataset = open_dataset(config.data, split=config.split)
        loader = Loader(
            dataset,
            config.imgsz,
            config.batch,
            train=False,
            threads=config.workers,
            cache=config.cache,
            rect=config.rect,
            pin_memory=next(detector.parameters()).is_cuda,
            masks=self.task == "segment",
        )
        loss = loss_of(self.module.config.task, DetectionLoss(len(dataset.names), detector.strides))
        metrics = validate(
            detector,
            loader,
            conf=config.conf,
            iou=config.iou,
            max_det=config.max_det,
            device=next(detector.parameters()).device,
            dtype=config.dtype,
            criterion=loss if config.plots else None,
            per_image=config.plots,
        )
        if config.plots:
            self.run_dir = new_run_folder(config.project, config.name)
            Pictures(Reporter()).draw_figures(self.run_dir, metrics)
            report_validation(config, metrics, dataset, self.run_dir)
        return metrics

    def explain(self, source: Any, **options: Any) -> Explanation:
        """Show what the network looks at: receptive fields, responses of the scan's directions, class activation.

        Args:
            source: a photograph in any form that predict takes; of several the first is explained.
            options: fields of `ExplainConfig`: target, stage, imgsz, conf, …; nothing is written, see
                `engine.explain_pictures.save_explanation`.
        """
        config = from_flat(ExplainConfig, options)
        return explain(self._on(config.device), self.names, source, config)

    def info(self, imgsz: int = 640) -> Any:
        """Parameters and FLOPs (scan counted), in total and per stage, at a square image size."""
        return flops.summary(self.module, imgsz)

    def export(self, **options: Any) -> None:
        """Reserved: export to other formats is not in this version."""
        raise NotYetError(
            f"export {options or ''} is not in this version; use .module (a plain torch module) meanwhile"
        )

    def _on(self, device: str) -> Detector:
        """The network, on the device that one call asks for; auto leaves it where it is."""
        if device != "auto":
            self.module.to(pick_device(device))
        return self.module

    def __repr__(self) -> str:
        return f"MambaYOLO({self._source!r}, task={self.task!r}, {len(self.names)} classes)"
