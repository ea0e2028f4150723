"""Return freed memory to the operating system; does nothing except on Linux."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

MADV_DONTNEED = 4


def trim() -> None:
    """Return the memory of objects that are gone, which the allocator would keep for later."""
    # Objects in reference cycles hold their memory until the collector has run.
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def drop_pages(path: Path) -> None:
    """Drop the pages of a file that this process maps for reading; reading one again loads it from the file."""
    # OpenVINO maps a network's weights and computes with reordered copies, but the file's pages stay resident: a third
    # of the memory of a scoring worker with full-size models (bench/NOTES.md, "Memory").
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    name = str(path.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        # first-last permissions offset device inode path
        where, permissions, _, _, _, *rest = line.split(maxsplit=5)
        if rest == [name] and permissions.startswith("r-"):
            first, last = (int(edge, 16) for edge in where.split("-"))
            advise(first, last - first, MADV_DONTNEED)
