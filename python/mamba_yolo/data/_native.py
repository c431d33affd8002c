"""The one module of `data` that imports the native module; every other file of data asks here."""

from mamba_yolo import _rust as native

__all__ = ["native"]
