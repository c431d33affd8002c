"""Starts a training and ends at the first batch of the first step: `starting.py ours data.yaml n FOLDER`.

Or `starting.py ultralytics data.yaml yolov8n FOLDER`, by documented functions only.
"""

import os
import sys

who, data, model, folder = sys.argv[1:]
options = {"data": data, "epochs": 1, "imgsz": 320, "batch": 16, "workers": 2, "device": "cpu", "plots": False}


def stop(*_):
    os._exit(0)  # nothing more is of interest, worker processes end with their parent


def ours():
    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.callbacks import Callback
    from mamba_yolo.engine.train import train

    class Stop(Callback):
        def on_batch(self, index, batch):
            stop()

    train(TrainConfig(model=model, project=folder, **options), callbacks=[Stop()])


def ultralytics():
    from ultralytics import YOLO

    network = YOLO(f"{model}.yaml")
    network.add_callback("on_train_batch_start", stop)
    network.train(**options, project=folder, pretrained=False, amp=False, verbose=False)


{"ours": ours, "ultralytics": ultralytics}[who]()
