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
from mamba_yolo.models.pickle_reader import Name, read_pickle

if TYPE_CHECKING:
    from torch import Tensor

MAX_MEMBERS = 100_000
MAX_PICKLE_BYTES = 16 * 2**20  # the largest network's graph takes less than one
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
    loaded: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """Bytes of a member; zipfile checks their CRC."""
        try:
            return self.archive.read(self.prefix + name)
        except KeyError as error:
            raise CheckpointError(f"has no member {name[:MAX_DIMENSIONS]!r}, which its pickle names") from error

    def load(self, persistent_id: Any) -> Tensor:
        """Flat tensor of a storage, from ("storage", type, key, device, number of elements)."""
        kind, storage_type, key, _, count = persistent_id
        if kind != "storage" or not isinstance(storage_type, Name) or not isinstance(key, str) or not key.isalnum():
            raise CheckpointError("refers to something outside itself that is not a storage")
        if storage_type.attribute not in STORAGES:
            raise CheckpointError(f"has a {storage_type.attribute}, expected one of {', '.join(STORAGES)}")
        known = self.loaded.get((key, storage_type.attribute))
        if known is None:
            known = self._read_storage(key, STORAGES[storage_type.attribute])
            self.loaded[key, storage_type.attribute] = known
        if known.numel() != count:
            raise CheckpointError(f"storage {key} has {known.numel()} elements, its pickle says {count}")
        return known

    def _read_storage(self, key: str, dtype: torch.dtype) -> Tensor:
        """Flat tensor of one member, in the byte order of this machine."""
        if any(known == key for known, _ in self.loaded):
            raise CheckpointError(f"storage {key} is used with two types")
        data = bytearray(self.read(f"data/{key}"))
        if len(data) % dtype.itemsize:
            raise CheckpointError(f"storage {key} has {len(data)} bytes, not a multiple of {dtype.itemsize}")
        if sys.byteorder != "little" or self._byteorder() != "little":
            raise CheckpointError("is not in little-endian byte order on a little-endian machine")
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def _byteorder(self) -> str:
        """Byte order that the file names; older files, which name none, are little-endian."""
        name = f"{self.prefix}byteorder"
        return self.archive.read(name).decode("ascii", "replace") if name in self.archive.namelist() else "little"

    def rebuild_tensor(self, arguments: list[Any]) -> Tensor:
        """View of a storage, from (storage, offset, size, stride, ...), inside its bounds."""
        storage, offset, size, stride = arguments[:4]
        size, stride = tuple(size), tuple(stride)
        numbers = (offset, *size, *stride)
        if not isinstance(storage, torch.Tensor) or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
            raise CheckpointError("has a tensor without a storage or with unequal sizes and strides")
        if not all(type(n) is int and 0 <= n <= storage.numel() for n in numbers):
            raise CheckpointError("has a tensor with sizes beyond its storage")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
            raise CheckpointError("has a tensor that reaches beyond its storage")
        return storage.as_strided(size, stride, offset)
