"""Memory that nothing looks at any more, given back to the system; on other systems than Linux nothing is done."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

MADV_DONTNEED = 4


def trim() -> None:
    """Give back what objects took that are gone, and what the allocator keeps of them."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def drop_pages(path: Path) -> None:
    """Drop the pages of a file that this process maps for reading; one that is read again comes back from the file.

    OpenVINO maps a network's weights and works on copies in an order of its own, but the file's pages stay resident: a
    third of what a scoring worker of full-size models takes.
    """
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
