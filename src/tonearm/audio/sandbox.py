"""Decoding in a child process that may crash, hang or run out of memory without harm.

Native decoders are where bulk jobs die: a segfault takes the worker, a hang takes the run. Here a child decodes; the
parent sets a deadline and a memory limit, and whatever becomes of the child, the track becomes a result or one
``DecodeError``. Bytes and samples travel through memory files, so a decode costs one copy of the encoded bytes and none
of the samples.

``multiprocessing`` is not used because its children import the parent's main module, which inside Ray is Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tonearm import own_process
from tonearm.audio.decode import DecodedTrack, DecodeRequest, PcmStream
from tonearm.audio.readers.container import AudioInfo
from tonearm.errors import DecodeError
from tonearm.settings import DecodeSettings
from tonearm.wording import counted

# A child is replaced after so many tracks: native libraries leak a little on each.
TRACKS_PER_CHILD = 500

# The end of a name is what may tell a format.
NAME_CHARACTERS = 64
# A file of encoded bytes up to this size is used again: fresh pages cost more than the copy.
KEPT_BYTES, KEPT_STEP = 64 * 2**20, 2**20

# So are this many files of samples, once nobody holds the samples in them.
SPARE_FILES, SPARE_BYTES = 2, 32 * 2**20

# glibc's allocator gives memory back after each track and faults it in again for the next: a tenth of the time that a
# short file takes. Up to this much it keeps.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20)}

HEADER = struct.Struct("<Q")
# An answer is a few numbers and texts for each track; a child whose heap is broken may announce anything.
MAX_MESSAGE_BYTES = 256 * 2**20
# How long a child that has closed its connection may take to end by itself.
END_S = 5.0
# How often a child that is at work is told to end, when its sandbox is closed.
CLOSE_S = 0.2
T = TypeVar("T")


def memory_file(name: str) -> int:
    """Return the descriptor of an unnamed file that lives in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def send_message(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one JSON message, prefixed by its length."""
    body = json.dumps(message).encode()
    connection.sendall(HEADER.pack(len(body)) + body)


def receive_message(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Read one message.

    Raises:
        EOFError: the other side is gone, or what it sends is no message.
        TimeoutError: ``deadline``, on the monotonic clock, has passed.
    """
    (length,) = HEADER.unpack(_receive(connection, HEADER.size, deadline))
    if length > MAX_MESSAGE_BYTES:
        raise EOFError
    try:
        message = json.loads(_receive(connection, length, deadline))
    except (ValueError, RecursionError):
        raise EOFError from None
    if not isinstance(message, dict):
        raise EOFError
    return message


def _receive(connection: socket.socket, num_bytes: int, deadline: float | None) -> bytes:
    parts = []
    while num_bytes:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        part = connection.recv(min(num_bytes, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


class DecodeSandbox:
    """Decodes one track at a time in a child process; safe to share between threads.

    >>> with DecodeSandbox(DecodeSettings()) as sandbox:  # doctest: +SKIP
    ...     track = sandbox.decode(data, request)
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._is_given_up = False

    def __enter__(self) -> DecodeSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """The process that decodes now, or None before the first track and after a crash."""
        return self._child.process.pid if self._child is not None else None

    def decode(self, data: bytes | memoryview, request: DecodeRequest, name: str = "") -> DecodedTrack:
        """Return ``decode(data, request, name)`` as a child computes it.

        Raises:
            DecodeError: as ``decode`` does, or decode_timeout, decode_crashed, decode_memory.
        """
        if not len(data):
            raise DecodeError("got a file of 0 bytes, expected encoded audio", code="empty_file")
        return self._ask(len(data), lambda child: child.decode(data, request, name, self.settings.timeout_s))

    def describe(self, head: bytes, tail: bytes, num_bytes: int, name: str = "") -> AudioInfo:
        """Return ``read_header`` of a file of ``num_bytes`` of which only the two ends are at hand.

        Raises:
            DecodeError: as ``read_header`` does, or decode_timeout, decode_crashed, decode_memory.
        """
        return self._ask(num_bytes, lambda child: child.describe(head, tail, num_bytes, name, self.settings.timeout_s))

    def _ask(self, num_bytes: int, work: Callable[[_Child], T]) -> T:
        with self._lock:
            self._is_given_up = False
            child = self._ready_child()
            try:
                try:
                    answer = work(child)
                except (EOFError, ConnectionError):
                    # An earlier track may have left its heap broken, and SIGKILL comes from outside (a person, a
                    # system without memory): a track is only to blame when a fresh child dies of it too.
                    if self._is_given_up or (not child.num_tracks and child.ended() != -signal.SIGKILL):
                        raise
                    self._discard()
                    child = self._ready_child()
                    answer = work(child)
            except TimeoutError:
                self._discard()
                raise DecodeError(
                    f"decoding {counted(num_bytes, 'byte')} took longer than decode.timeout_s = "
                    f"{self.settings.timeout_s:g}",
                    code="decode_timeout",
                ) from None
            except (EOFError, ConnectionError):
                if self._is_given_up:
                    self._discard()
                    raise DecodeError("nobody waits for this track any more", code="decode_crashed") from None
                raise self._crashed(child) from None
            except DecodeError as error:
                if error.code == "decode_memory":
                    self._discard()  # what is left of its heap is not to be trusted with the next track
                raise
            if child.num_tracks >= TRACKS_PER_CHILD:
                self._discard()
            return answer

    def give_up(self) -> None:
        """End what another thread is decoding at this moment: its call raises ``DecodeError`` at once."""
        child = self._child
        if child is not None and self._lock.locked():
            self._is_given_up = True
            child.process.kill()

    def close(self) -> None:
        """End the child, also in the middle of a track: the call that waits for it raises ``DecodeError``."""
        while not self._lock.acquire(timeout=CLOSE_S):
            self.give_up()
        try:
            self._discard()
        finally:
            self._lock.release()

    def _ready_child(self) -> _Child:
        child = self._child
        if child is not None and child.owner != os.getpid():
            child = self._child = None  # inherited through a fork: the other process's child, not ours
        if child is not None and child.process.poll() is not None:
            self._discard()
            child = None
        if child is None:
            child = self._child = _Child(self.settings)
        return child

    def _crashed(self, child: _Child) -> DecodeError:
        status = child.ended()
        last = child.last_words()
        self._discard()
        if "MemoryError" in last or "bad_alloc" in last:
            return _memory_error(self.settings)
        if status < 0:
            # A signal of real time has no name there.
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            return DecodeError(
                f"the native decoder died of {name} on this file{last and ': ' + last}", code="decode_crashed"
            )
        return DecodeError(
            f"the decoder ended with status {status} on this file{last and ': ' + last}", code="decode_crashed"
        )

    def _discard(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _PcmFiles:
    """Memory files that a child writes samples to; one whose samples nobody holds any more is used again.

    In fresh pages, which the system has to fault in and clear, writing half a minute of samples takes 0.7 ms, of the
    20 to 80 that decoding takes.
    """

    def __init__(self) -> None:
        self._spare: list[int] = []
        self._is_closed = False

    def take(self) -> int:
        """Return the descriptor of a file, which may have samples in it."""
        return self._spare.pop() if self._spare else memory_file("pcm")

    def give_back(self, descriptor: int) -> None:
        """Keep a file to be taken again, or close it."""
        is_large = os.fstat(descriptor).st_size > SPARE_BYTES
        if self._is_closed or is_large or len(self._spare) >= SPARE_FILES:
            os.close(descriptor)
        else:
            self._spare.append(descriptor)

    def close(self) -> None:
        """Close those that nobody holds; the others are closed when they are given back."""
        self._is_closed = True
        while self._spare:
            os.close(self._spare.pop())


class _Child:
    def __init__(self, settings: DecodeSettings) -> None:
        self.owner = os.getpid()
        self.num_tracks = 0
        self.settings = settings
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
        self.connection, theirs = socket.socketpair()
        self.source = memory_file("encoded")
        self.source_bytes = 0
        self.pcm_files = _PcmFiles()
        # The child ends itself when this pipe closes, that is when its parent dies, however it dies.
        lifeline, self.lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                own_process.command(
                    "tonearm.audio.sandbox_child",
                    str(theirs.fileno()),
                    str(lifeline),
                    str(self.source),
                    str(settings.max_memory_bytes),
                ),
                # Not the terminal's process group: Ctrl-C is for the parent, which may want to finish this track.
                process_group=0,
                pass_fds=(theirs.fileno(), lifeline, self.source),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.stderr,
                # Threads would only multiply the address space that the limit counts.
                env=own_process.environment(**MALLOC, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            )
        finally:
            theirs.close()
            os.close(lifeline)

    def decode(self, data: bytes | memoryview, request: DecodeRequest, name: str, timeout_s: float) -> DecodedTrack:
        if len(data) > self.source_bytes:
            self._resize(-(-len(data) // KEPT_STEP) * KEPT_STEP)
        self._write(0, data)
        message = {"task": "decode", "num_bytes": len(data), "name": name[-NAME_CHARACTERS:]} | dataclasses.asdict(
            request
        )
        return self._ask(message, timeout_s, self._track)

    def _track(self, reply: dict[str, Any], target: int) -> DecodedTrack:
        # The map stays as long as an array looks into it, and so long the file is not used again.
        size = os.fstat(target).st_size
        pages = mmap.mmap(target, size, access=mmap.ACCESS_READ) if size else b""
        if isinstance(pages, mmap.mmap):
            weakref.finalize(pages, self.pcm_files.give_back, os.dup(target)).atexit = False
        streams = []
        for stream in reply["streams"]:
            pcm = np.frombuffer(pages, stream["dtype"], stream["count"], stream["offset"] if stream["count"] else 0)
            streams.append(PcmStream.of(stream, pcm))
        return DecodedTrack(AudioInfo(**reply["info"]), tuple(streams), reply["decoded_share"])

    def describe(self, head: bytes, tail: bytes, num_bytes: int, name: str, timeout_s: float) -> AudioInfo:
        self._resize(0)  # so that what is between the ends reads as zeros
        self._resize(num_bytes)
        self._write(0, head)
        self._write(num_bytes - len(tail), tail)
        message = {"task": "describe", "num_bytes": num_bytes, "name": name[-NAME_CHARACTERS:]}
        return self._ask(message, timeout_s, lambda reply, _: AudioInfo(**reply["info"]))

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.source, view, offset)
            view, offset = view[written:], offset + written

    def _resize(self, num_bytes: int) -> None:
        os.truncate(self.source, num_bytes)
        self.source_bytes = num_bytes

    def _ask(self, message: dict[str, Any], timeout_s: float, read: Callable[[dict[str, Any], int], T]) -> T:
        deadline = time.monotonic() + timeout_s
        target = self.pcm_files.take()
        try:
            self.connection.settimeout(timeout_s)
            socket.send_fds(self.connection, [b"d"], [target])
            send_message(self.connection, message)
            reply = receive_message(self.connection, deadline)
            self.num_tracks += 1
            if self.source_bytes > KEPT_BYTES:
                self._resize(0)
            if reply.get("code") == "decode_memory":
                raise _memory_error(self.settings)
            try:
                if "code" in reply:
                    raise DecodeError(reply["message"], code=reply["code"])
                return read(reply, target)
            except (ValueError, TypeError, LookupError, AttributeError):
                raise EOFError from None  # what a broken child says is as good as nothing
        finally:
            os.close(target)

    def ended(self) -> int:
        """Return the status that the child ended with; one that only closed its connection is killed."""
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def end(self) -> None:
        if self.owner != os.getpid():
            return
        self.connection.close()
        self.pcm_files.close()
        for descriptor in (self.lifeline, self.source):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.process.kill()
        self.process.wait()
        self.stderr.close()


def _memory_error(settings: DecodeSettings) -> DecodeError:
    return DecodeError(
        f"decoding asked for more than decode.max_memory_bytes = {settings.max_memory_bytes:,}", code="decode_memory"
    )
