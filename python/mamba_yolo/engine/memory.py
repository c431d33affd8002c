"""Memory that a step frees stays with the process for the next step.

glibc gives every large block back to the system at once and fetches it again, zeroed, page by page: for a network on a
CPU that is a sixth of the time. Test: tests/engine/test_memory.py.
"""

from __future__ import annotations

import ctypes
import functools

KEPT_BYTES = 1 << 30  # more than this, free at the end of the heap, goes back to the system
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep up to 1 GiB of freed memory, once per process; tell whether this system's malloc can.

    Only glibc can; other C libraries stay as they are. Buffers in threads other than the first are still given back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, KEPT_BYTES) for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
