"""The files that a lock consists of, and their content.

::

    lock.json                 who holds the lock: written again with each heartbeat, deleted at the end
    terms/000000000007.json   the claim of term 7: created only if absent, so that only one run owns the term
    terms/000000000007.closed on object stores only: the door of term 7 (see ``lock``)
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import posixpath
import re
import socket
import time
import uuid
from pathlib import Path

import psutil

from tonearm.errors import DestinationError
from tonearm.runs.places import TERMS
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.wording import counted

# A lock has about 400 bytes. A larger file is another program's, and is not read whole.
MAX_BYTES = 64 * 1024
MAX_TEXT = 300
MAX_TERM = 10**12 - 2
CLAIM = re.compile(r"^(\d{12})\.(json|closed)$")
SINCE = "%Y-%m-%d %H:%M:%S"
# Tokens of this process's finished runs. On a full disk the end of a run cannot be written; without this, a process
# that lives on, such as a notebook's, would wait for itself.
LET_GO: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Machine:
    """The scope of a process number: two containers on one host may give the same number to two processes."""

    host: str
    boot_id: str
    pid_namespace: str

    @classmethod
    def this(cls) -> Machine:
        """Return the machine, or the container, of this process."""
        return cls(socket.gethostname(), _boot_id(), _pid_namespace())


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"{uuid.getnode():012x}-{psutil.boot_time():.0f}"


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock, or has claimed a term of it.

    Attributes:
        token: random text that identifies this holding.
        process_started: seconds since the epoch, by the holder's clock; compared only if ``is_here``.
        since, at: when it began and when this was written, in UTC by the holder's clock; only shown to people.
        beat: changes with every heartbeat.
        term: one more than that of the previous holder; 0 for a run of tonearm 0.1.0.
        boot_id, pid_namespace: see ``Machine``; empty for a run of tonearm 0.1.0.
        released: the holding has ended, but the store did not allow the lock to be deleted.
    """

    token: str
    host: str
    pid: int
    process_started: float
    since: str
    beat: int = 0
    at: str = ""
    term: int = 0
    boot_id: str = ""
    pid_namespace: str = ""
    released: bool = False

    @classmethod
    def of_this_process(cls, machine: Machine | None = None) -> Holder:
        """Return this process as a holder, with a new token and no term yet."""
        machine, process = machine or Machine.this(), psutil.Process()
        return cls(
            uuid.uuid4().hex,
            machine.host,
            process.pid,
            process.create_time(),
            now(),
            boot_id=machine.boot_id,
            pid_namespace=machine.pid_namespace,
        )

    @classmethod
    def parse(cls, data: bytes) -> Holder:
        """Return the holder in ``data``, the content of a lock or a claim.

        Raises:
            ValueError: it is not a lock of any version of tonearm; the message says why, in a few words.
        """
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {counted(MAX_BYTES, 'byte')}")
        beginning = f"it begins with {data[:24]!r}" if data else "it is empty"
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(beginning) from None
        if not isinstance(values, dict):
            raise ValueError(beginning)
        fields = {}
        for field in dataclasses.fields(cls):
            if field.name in values:
                fields[field.name] = values[field.name]
                if not _is_valid(field.name, values[field.name]):
                    raise ValueError(f"its {field.name!r} is {str(values[field.name])[:40]!r}")
            elif field.default is dataclasses.MISSING:
                raise ValueError(f"it has no {field.name!r}")
        return cls(**fields)

    @property
    def who(self) -> str:
        return f"another run (process {self.pid} on {self.host}, since {self.since} UTC)"

    def is_here(self, machine: Machine | None = None) -> bool:
        """Return whether it is a process of this machine, so that the list of processes tells whether it is alive."""
        machine = machine or Machine.this()
        return bool(self.boot_id) and machine == Machine(self.host, self.boot_id, self.pid_namespace)

    def is_dead(self, machine: Machine | None = None) -> bool:
        """Return whether it is known to have ended: a process of this machine that is gone, or a run of this one."""
        if not self.is_here(machine):
            return False
        if self.pid == os.getpid() and self.token in LET_GO:
            return True
        try:
            # The start time tells whether another process has got the same number since.
            process = psutil.Process(self.pid)
            return process.create_time() != self.process_started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        # Not allowed to look: it may be alive.
        except psutil.Error:
            return False


TEXTS, NUMBERS = {"token", "host", "since", "at", "boot_id", "pid_namespace"}, {"pid": 2**31, "beat": 2**62}


def _is_valid(name: str, value: object) -> bool:
    if name in TEXTS:
        # Texts are shown in messages, so they have to be printable and short even if another program wrote them.
        return (
            isinstance(value, str)
            and value.isprintable()
            and len(value) <= MAX_TEXT
            and (value != "" or name != "token")
        )
    if name == "released":
        return isinstance(value, bool)
    # In Python, True is an int too.
    if isinstance(value, bool):
        return False
    if name == "process_started":
        return isinstance(value, int | float)
    return isinstance(value, int) and 0 <= value <= NUMBERS.get(name, MAX_TERM)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim; ``holder`` is None if the file cannot be parsed."""

    term: int
    holder: Holder | None


def now() -> str:
    """Return the current time as locks have it, in UTC."""
    return time.strftime(SINCE, time.gmtime())


def read(url: str, place: str) -> Holder | None:
    """Return the holder in the lock at ``url``; None only if there is no lock.

    Raises:
        DestinationError: the store cannot be read, or the file is not a lock.
    """
    data = _read_bytes(url)
    if data is None:
        return None
    try:
        return Holder.parse(data)
    except ValueError as error:
        raise DestinationError(
            f"{shown(url)} is no lock of tonearm ({error}), so another program may be writing to {shown(place)}; "
            "stop that program or delete this file, then run the same command again"
        ) from None


def write(url: str, holder: Holder) -> None:
    """Write the lock, replacing any other.

    Raises:
        DestinationError: the store cannot be written.
    """
    filesystems.write_text(url, to_json(holder))


def to_json(holder: Holder) -> str:
    """Return the content of the lock or claim of ``holder``."""
    return json.dumps(dataclasses.asdict(holder))


def claim_url(url: str, term: int, ending: str = "json") -> str:
    """Return the URL of the claim of ``term`` of the lock at ``url``."""
    return posixpath.join(posixpath.dirname(url), TERMS, f"{term:012d}.{ending}")


def read_claim(url: str, term: int) -> Claim | None:
    """Return the claim of ``term``; None only if there is none.

    Raises:
        DestinationError: the store cannot be read.
    """
    data = _read_bytes(claim_url(url, term))
    if data is None:
        return None
    try:
        return Claim(term, Holder.parse(data))
    except ValueError:
        return Claim(term, None)


def list_claims(url: str) -> list[int]:
    """Return the terms whose claims exist, sorted; claims of long ago have been deleted.

    Raises:
        DestinationError: the store cannot be read.
    """
    folder = posixpath.dirname(claim_url(url, 0))
    matches = [CLAIM.match(name) for name in filesystems.list_files(folder)]
    return sorted({int(match[1]) for match in matches if match is not None and match[2] == "json"})


def is_there(url: str) -> bool:
    """Return whether there is an object at ``url``, by reading it, since listings of some stores lag behind.

    Raises:
        DestinationError: the store cannot be read.
    """
    return _read_bytes(url) is not None


def _read_bytes(url: str) -> bytes | None:
    with filesystems.reading(url):
        try:
            return filesystems.read_bytes(url, max_bytes=MAX_BYTES + 1)
        except FileNotFoundError:
            return None
