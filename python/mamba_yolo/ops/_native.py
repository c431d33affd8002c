"""The one module of `ops` that imports the native module; every other file of ops asks here."""

from mamba_yolo import _rust as native

__all__ = ["native"]
