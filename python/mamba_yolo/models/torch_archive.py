"""Read a file written by `torch.save` as data: a zip archive of one pickle and the bytes of the storages.

Sizes are checked before anything is read: torch stores its members uncompressed, so the whole can never be larger
than the file. Test: tests/models/test_official.py.
"""

from __future__ import annotations

import math
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.errors import CheckpointError, MissingFileError
from mamba_yolo.models.pickle_names import Name, shown
from mamba_yolo.models.pickle_reader import read_pickle

if TYPE_CHECKING:
    from torch import Tensor

MAX_MEMBERS = 10_000  # the largest network has 900
MAX_PICKLE_BYTES = 8 * 2**20  # the largest network's graph takes less than one
MAX_KEY_LETTERS = 20
MAX_DIMENSIONS = 8
ENCRYPTED_FLAG = 0x1
STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_torch_archive(path: str | Path) -> Any:
    """The value in a torch archive: tensors, numbers, text, containers, and inert nodes for objects.

    Raises:
        MissingFileError: no such file.
        CheckpointError: damaged, hostile, or another kind of file; names the file.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            storages = _Storages(archive, _checked_prefix(archive, Path(path).stat().st_size))
            return read_pickle(storages.read("data.pkl"), storages.load, storages.rebuild_tensor)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a whole torch archive ({type(error).__name__}); if it is from torch before 1.6, save it again"
        ) from error


def _checked_prefix(archive: zipfile.ZipFile, file_bytes: int) -> str:
    """The folder inside the archive, after all declared sizes were found plausible."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise CheckpointError(f"has {len(members)} members, more than {MAX_MEMBERS}")
    if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & ENCRYPTED_FLAG for m in members):
        raise CheckpointError("has compressed or encrypted members, which torch never writes; refused")
    if sum(m.file_size for m in members) > file_bytes:
        raise CheckpointError("declares more bytes than the file has; refused")
    pickles = [m for m in members if m.filename.count("/") == 1 and m.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("is a zip archive without the one data.pkl of a torch archive")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"its pickle has {pickles[0].file_size} bytes, more than {MAX_PICKLE_BYTES}")
    return pickles[0].filename.removesuffix("data.pkl")


@dataclass
class _Storages:
    """The members of an open archive; every storage is read once."""

    archive: zipfile.ZipFile
    prefix: str
    loaded: dict[str, tuple[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compare byte orders; older files, which name none, are little-endian."""
        name = f"{self.prefix}byteorder"
        theirs = self.archive.read(name) if name in self.archive.namelist() else b"little"
        if theirs != b"little" or sys.byteorder != "little":
            raise CheckpointError("is not in little-endian byte order on a little-endian machine")

    def read(self, name: str) -> bytes:
        """Bytes of a member; zipfile checks their CRC."""
        try:
            return self.archive.read(self.prefix + name)
        except KeyError as error:
            raise CheckpointError(f"has no member {name!r}, which its pickle names") from error

    def load(self, persistent_id: Any) -> Tensor:
        """Flat tensor of a storage, from ("storage", type, key, device, number of elements)."""
        kind, storage_type, key, _, count = persistent_id
        if kind != "storage" or not isinstance(storage_type, Name) or not _is_key(key):
            raise CheckpointError("refers to something outside itself that is not a storage")
        kind = storage_type.attribute
        if kind not in STORAGES:
            raise CheckpointError(f"has a {shown(storage_type)}, expected one of {', '.join(STORAGES)}")
        if key not in self.loaded:
            self.loaded[key] = kind, self._read_storage(key, STORAGES[kind])
        known_kind, storage = self.loaded[key]
        if known_kind != kind:
            raise CheckpointError(f"storage {key} is used with two types")
        if type(count) is not int or storage.numel() != count:
            raise CheckpointError(f"storage {key} has {storage.numel()} elements, its pickle says another number")
        return storage

    def _read_storage(self, key: str, dtype: torch.dtype) -> Tensor:
        """Flat tensor of one member."""
        data = bytearray(self.read(f"data/{key}"))
        if len(data) % dtype.itemsize:
            raise CheckpointError(f"storage {key} has {len(data)} bytes, not a multiple of {dtype.itemsize}")
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def rebuild_tensor(self, arguments: list[Any]) -> Tensor:
        """View of a storage, from (storage, offset, size, stride, ...), inside its bounds."""
        storage, offset, size, stride = arguments[:4]
        if not isinstance(storage, torch.Tensor) or not _are_dimensions(size, stride):
            raise CheckpointError("has a tensor without a storage or with unequal sizes and strides")
        if not all(type(n) is int and 0 <= n <= storage.numel() for n in (offset, *size, *stride)):
            raise CheckpointError("has a tensor with sizes beyond its storage")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
            raise CheckpointError("has a tensor that reaches beyond its storage")
        return storage.as_strided(tuple(size), tuple(stride), offset)


def _is_key(key: Any) -> bool:
    """Whether this can be the name of a storage."""
    return isinstance(key, str) and key.isalnum() and key.isascii() and len(key) <= MAX_KEY_LETTERS


def _are_dimensions(size: Any, stride: Any) -> bool:
    """Whether these are equally many sizes and strides."""
    return all(isinstance(n, tuple | list) for n in (size, stride)) and len(size) == len(stride) <= MAX_DIMENSIONS
