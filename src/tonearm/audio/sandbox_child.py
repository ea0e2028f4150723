"""The process that decodes for a ``DecodeSandbox``.

python -m tonearm.audio.sandbox_child SOCKET LIFELINE SOURCE MAX_BYTES, the first three of them descriptors.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
import resource
import socket
import sys
import threading
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tonearm.audio.decode import DecodeRequest, decode
from tonearm.audio.readers.headers import read_header
from tonearm.audio.sandbox import KEPT_BYTES, receive_message, send_message
from tonearm.audio.windows import plan_of
from tonearm.errors import DecodeError
from tonearm.storage.uris import scrubbed

# Only Linux has the second.
POPULATED = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
# Where decoding and scoring share cores, a forward pass that waits for one of its threads wastes the others.
NICENESS = 5


def main() -> None:
    """Serve decode requests until the parent is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with_parent, args=(int(sys.argv[2]),), daemon=True).start()
    av.logging.set_level(av.logging.PANIC)
    source, limit = _Source(int(sys.argv[3])), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    while True:
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not descriptors:
            return
        (target,) = descriptors
        try:
            send_message(connection, _answer(receive_message(connection), source, target))
        finally:
            os.close(target)


def _answer(message: dict[str, Any], source: _Source, target: int) -> dict[str, Any]:
    pool = _Pool(target)
    try:
        if message["task"] == "describe":
            with open(source.descriptor, "rb", closefd=False) as file:
                file.seek(0)
                return {"info": dataclasses.asdict(read_header(file, message["name"]))}
        plans = tuple(map(plan_of, message["plans"]))
        track = decode(
            source.view(message["num_bytes"]),
            DecodeRequest(plans, message["max_scored_s"], message["max_duration_s"]),
            message["name"],
            allocate=pool.allocate,
        )
    except MemoryError:
        return {"code": "decode_memory", "message": ""}
    except OSError as error:  # no room to map the file
        if error.errno != errno.ENOMEM:
            raise
        return {"code": "decode_memory", "message": ""}
    except DecodeError as error:
        return {"code": error.code, "message": error.message}
    except (ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        # What a library says of a file that none of us has seen: no reason for a new child.
        return {"code": "corrupt", "message": f"it cannot be decoded ({type(error).__name__}: {scrubbed(str(error))})"}
    return {
        "info": dataclasses.asdict(track.info),
        "decoded_share": track.decoded_share,
        "streams": [
            {**stream.header(), "count": len(stream.pcm), "offset": offset}
            for stream, offset in zip(track.streams, pool.offsets, strict=True)
        ],
    }


class _Source:
    """The file that the parent writes encoded bytes to, mapped once for many tracks: page faults cost as copies do."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._pages = memoryview(b"")

    def view(self, num_bytes: int) -> memoryview:
        pages = self._pages
        if num_bytes > len(pages):
            pages = memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ))
        if len(pages) <= KEPT_BYTES:  # a larger one would count against the next tracks' memory
            self._pages = pages
        return pages[:num_bytes]


class _Pool:
    """Gives out arrays in the memory file that the parent maps."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.offsets: list[int] = []
        self.size = 0

    def allocate(self, num_samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        offset = self.size
        self.offsets.append(offset)
        self.size = -(-(offset + dtype.itemsize * num_samples) // mmap.PAGESIZE) * mmap.PAGESIZE
        # Never made smaller: the pages that a track before has left need not be made again.
        if os.fstat(self.target).st_size < self.size:
            os.ftruncate(self.target, self.size)
        if not num_samples:
            return np.empty(0, dtype)
        try:
            # All pages at once: a fault for each of them is a third of the time that writing takes.
            pages = mmap.mmap(self.target, self.size - offset, POPULATED, offset=offset)
        except OSError as error:
            raise MemoryError(*error.args) from error
        return np.frombuffer(pages, dtype, num_samples)


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
