"""Trains one model and predicts one split: `learning.py ours JSON` or `learning.py ultralytics JSON`.

Started by `learn.py`, again after an interruption: what was trained is kept. Writes epochs.jsonl, an epoch a line,
into the folder, then predictions.json: rows x1 y1 x2 y2 score class, in pixels of the photograph, by its name, and of a
-seg network COCO run lengths of its masks, at the size of the photograph. Both sides train with their own defaults and
predict with the same thresholds, by their documented functions only.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch

PREDICTION = {"conf": 0.001, "iou": 0.7, "max_det": 300, "retina_masks": True}
CHUNK = 16  # images per call of predict


class EpochLog:
    """When epochs began, when they had trained, and when they had been validated and saved."""

    def __init__(self, path):
        self.path = path
        self.begin()

    def begin(self, *_):
        torch.set_num_threads(THREADS)  # ultralytics keeps a core free
        self.start, self.trained = time.perf_counter(), None

    def trains(self, *_):
        self.trained = self.trained or time.perf_counter()

    def end(self, epoch):
        if epoch > JOB["epochs"]:  # ultralytics tells of its last validation as of one more epoch
            return
        now = time.perf_counter()
        trained = self.trained or now  # of an epoch without validation
        row = {"epoch": epoch, "train_s": trained - self.start, "wall_s": now - self.start}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.start, self.trained = now, None

    def finished(self):
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        return any(json.loads(line)["epoch"] >= JOB["epochs"] for line in lines)


def has_begun(last):
    """Whether there is an epoch to go on from; if not, what an early end left behind is removed."""
    if not last.is_file():
        shutil.rmtree(FOLDER / "run", ignore_errors=True)
        log.path.unlink(missing_ok=True)
    return last.is_file()


def shared_options():
    names = ("data", "epochs", "imgsz", "batch", "seed", "device")
    return {name: JOB[name] for name in names} | {"workers": THREADS, "patience": JOB["epochs"], "plots": False}


def ours():
    from mamba_yolo import MambaYOLO, __version__
    from mamba_yolo.config import TrainConfig, from_flat
    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.engine.train import train

    class Listener(Callback):
        def on_run_start(self, run):
            log.begin()

        def on_validation_batch(self, batch, detections, masks):
            log.trains()  # one batch late, since it has been validated

        def on_epoch_end(self, epoch, row, metrics):
            log.end(epoch)

    best, last = (FOLDER / "run" / "weights" / f"{name}.safetensors" for name in ("best", "last"))
    if not log.finished():
        start = {"model": str(last), "resume": True} if last.is_file() else {"model": JOB["model"], **JOB["options"]}
        options = {**shared_options(), **start, "project": str(FOLDER), "name": "run"}
        train(from_flat(TrainConfig, options), callbacks=[Listener()])
    model = MambaYOLO(best, device=JOB["device"])

    def predict(paths):
        found = model.predict(paths, imgsz=JOB["imgsz"], batch=1, **PREDICTION)
        return [(r.boxes.data.tolist(), None if r.masks is None else r.masks.coco()) for r in found]

    return predict, model.module, {"mamba-yolo": __version__}


def ultralytics():
    import ultralytics

    ultralytics.settings.update({"sync": False})
    task = "segment" if HAS_MASKS else "detect"
    best, last = (FOLDER / "run" / "weights" / f"{name}.pt" for name in ("best", "last"))
    if not log.finished():
        resumes = has_begun(last)
        model = ultralytics.YOLO(str(last) if resumes else f"{JOB['model']}.yaml", task=task)
        model.add_callback("on_train_epoch_start", log.begin)
        model.add_callback("on_train_epoch_end", log.trains)
        model.add_callback("on_fit_epoch_end", lambda trainer: log.end(trainer.epoch + 1))
        place = {"project": str(FOLDER.resolve()), "name": "run", "exist_ok": True}
        if resumes:
            model.train(resume=True)
        else:
            model.train(**shared_options(), **place, pretrained=False, amp=False, verbose=False, **JOB["options"])
    model = ultralytics.YOLO(str(best), task=task)

    def predict(paths):
        found = model.predict(paths, imgsz=JOB["imgsz"], device=JOB["device"], verbose=False, **PREDICTION)
        return [(r.boxes.data.cpu().tolist(), run_lengths(r.masks)) for r in found]

    return predict, model.model, {"ultralytics": ultralytics.__version__}


def run_lengths(masks):
    """Of the peer's masks (n, height, width), by pycocotools; it has none where it found nothing."""
    import numpy as np
    from pycocotools.mask import encode

    if masks is None:
        return []
    pixels = masks.data.cpu().numpy().astype(np.uint8)
    rles = encode(np.asfortranarray(pixels.transpose(1, 2, 0)))
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles]


def predictions(predict):
    """Rows, and masks or None, by the name of the photograph."""
    paths = JOB["images"]
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    return {Path(p).name: found for chunk in chunks for p, found in zip(chunk, predict(chunk), strict=True)}


who, job = sys.argv[1:]
JOB, THREADS = json.loads(job), int(os.environ["OMP_NUM_THREADS"])
HAS_MASKS = JOB["model"].endswith("-seg")
FOLDER = Path(JOB["folder"])
torch.set_num_threads(THREADS)
log = EpochLog(FOLDER / "epochs.jsonl")
predictor, network, versions = {"ours": ours, "ultralytics": ultralytics}[who]()
found_by_name = predictions(predictor)
answer = {
    "parameters": sum(p.numel() for p in network.parameters()),
    "versions": {**versions, "torch": torch.__version__},
    "rows": {name: rows for name, (rows, _) in found_by_name.items()},
}
if HAS_MASKS:
    answer["masks"] = {name: masks for name, (_, masks) in found_by_name.items()}
unfinished = FOLDER / "predictions.part"
unfinished.write_text(json.dumps(answer), encoding="utf-8")
unfinished.replace(FOLDER / "predictions.json")
