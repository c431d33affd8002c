"""Which peers this environment has. `make bench-peers` makes one that has them all, and `make bench` then uses it.

Peers are called through their documented functions only, and always with our number of threads.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module, metadata
from typing import Any

PEERS = (
    "ultralytics",
    "torchvision",
    "mambapy",
    "albumentations",
    "simplejpeg",
    "lsnms",
    "powerboxes",
)


def version(peer: str) -> str | None:
    """Version of a peer, None where it is not installed."""
    try:
        return metadata.version(peer)
    except metadata.PackageNotFoundError:
        return None


def describe() -> str:
    """One line: who is here, who is not and how to get them."""
    versions = {peer: version(peer) for peer in PEERS}
    here = ", ".join(f"{peer} {number}" for peer, number in versions.items() if number)
    absent = ", ".join(peer for peer, number in versions.items() if not number)
    missing = f"; not installed: {absent} (run `make bench-peers`)" if absent else ""
    return f"peers: {here or 'none'}{missing}"


def ultralytics(module: str) -> Any:
    """A documented module of that peer in this process, which neither writes to the home folder nor installs."""
    quiet = {"YOLO_CONFIG_DIR": tempfile.gettempdir(), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    os.environ.update(quiet)
    return import_module(f"ultralytics.{module}")
