"""A simulated object store, in memory: what is asked of it takes time, fails, comes late and overtakes other things."""

from __future__ import annotations

import dataclasses
import io
import posixpath
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from fsspec.spec import AbstractFileSystem

from tests.simulation.world import Killed, Process, World

T = TypeVar("T")
# What a store makes of create-if-absent: honours it, ignores it, or looks first and writes later, as Swift does.
Creates = Literal["strict", "ignored", "late"]
USUAL_S, SLOW_S, LATE_S = (0.005, 0.15), (1.0, 9.0), (10.0, 150.0)


@dataclasses.dataclass
class Object:
    """What is stored under one path."""

    data: bytes
    version: int


class Store:
    """Objects by path, and who is told of each change."""

    def __init__(self, world: World, creates: Creates) -> None:
        self.world, self.creates = world, creates
        self.objects: dict[str, Object] = {}
        self.writer: Process | None = None  # whose request lands
        self.listeners: list[Callable[[str, bytes | None], None]] = []
        self._version = 0

    def put(self, path: str, data: bytes) -> None:
        """Write an object now."""
        self._version += 1
        self.objects[path] = Object(data, self._version)
        for listener in self.listeners:
            listener(path, data)

    def remove(self, path: str) -> None:
        """Delete an object now."""
        if self.objects.pop(path, None) is not None:
            for listener in self.listeners:
                listener(path, None)

    def below(self, folder: str) -> list[str]:
        """Return the paths below a folder, sorted."""
        return sorted(path for path in self.objects if path.startswith(f"{folder}/"))

    def entry(self, path: str) -> dict[str, Any]:
        """Return what a listing says of an object."""
        found = self.objects[path]
        return {"name": path, "size": len(found.data), "type": "file", "etag": f"v{found.version}"}

    def do(
        self, what: str, effect: Callable[[], T], *, is_write: bool = False, first: Callable[[], None] | None = None
    ) -> T:
        """Have the store do ``effect`` for the process that runs, some time from now, and return what comes of it.

        Args:
            what: in words.
            is_write: it may take effect after whoever asked has given up.
            first: done when it is asked, before time passes.
        """
        world = self.world
        process, random = world.process, world.random
        if process.is_dead:
            raise Killed
        if first is not None:
            first()
        is_slow = random.random() < process.fate.slow_rate
        there_s, back_s = random.uniform(*USUAL_S), random.uniform(*USUAL_S)
        if is_slow:
            there_s += random.uniform(*SLOW_S)
        box: list[Any] = []
        error: Exception | None = None
        is_cancelled = False
        if process.is_cut_off() or random.random() < process.fate.fault_rate:
            process.num_faults += 1
            error = random.choice([OSError("503 slow down"), TimeoutError("no answer")])
            kind = random.choice(["refused", "answer lost", "late"]) if is_write else "refused"
            if kind == "late":
                there_s, back_s = random.uniform(*LATE_S), -1.0
            is_cancelled = kind == "refused"
            world.tell(f"{process.name}: {what} fails ({kind})")
        begun = world.now
        is_suspended = process.stepped()
        if is_suspended and is_write and random.random() < 0.5:
            # It was on its way.
            there_s = random.uniform(0, 1.1) * (process.suspended_until - begun)
            world.tell(f"{process.name}: {what} is on its way for {there_s:.0f} s")
        if process.is_dead and random.random() < 0.5:
            is_cancelled = True

        def land() -> None:
            if is_cancelled:
                return
            self.writer = process
            try:
                box.append((effect(), None))
            except OSError as failure:
                box.append((None, failure))

        world.at(begun + there_s, land)
        if is_write:
            world.tell(f"{process.name}: {what}")
        world.pause(begun + there_s + back_s if back_s >= 0 else begun + random.uniform(1, 8))
        if error is not None:
            raise error
        if not box:  # suspended: it went on before its request landed
            while not box:
                world.pause(world.now + 1.0)
        result, failure = box[0]
        if failure is not None:
            raise failure
        return result


class SimulatedFileSystem(AbstractFileSystem):
    """The store as fsspec shows it, flat as S3 is: there are no folders."""

    protocol = "memory"
    cachable = False

    def __init__(self, store: Store) -> None:
        super().__init__(skip_instance_cache=True)
        self.store = store

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("memory://").strip("/")

    def _has(self, path: str) -> bool:
        return any(other.startswith(f"{path}/") for other in self.store.objects)

    def _info(self, path: str) -> dict[str, Any]:
        if path in self.store.objects:
            return self.store.entry(path)
        if self._has(path):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return what is there."""
        path = self._strip_protocol(path)
        return self.store.do(f"looks at {path}", lambda: self._info(path))

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is something."""
        path = self._strip_protocol(path)
        return self.store.do(f"looks for {path}", lambda: path in self.store.objects or self._has(path))

    def isfile(self, path: str) -> bool:
        """Return whether there is an object."""
        path = self._strip_protocol(path)
        return self.store.do(f"looks for {path}", lambda: path in self.store.objects)

    def isdir(self, path: str) -> bool:
        """Return whether there is something below."""
        path = self._strip_protocol(path)
        return self.store.do(f"looks for {path}/", lambda: self._has(path))

    def _children(self, path: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for other in self.store.below(path):
            head, slash, _ = other[len(path) + 1 :].partition("/")
            name = f"{path}/{head}"
            found[name] = {"name": name, "size": 0, "type": "directory"} if slash else self.store.entry(other)
        return list(found.values())

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what is directly in a folder."""
        path = self._strip_protocol(path)

        def listed() -> list[dict[str, Any]]:
            found = self._children(path)
            if not found and path not in self.store.objects:
                raise FileNotFoundError(path)
            return found or [self.store.entry(path)]

        entries = self.store.do(f"lists {path}", listed)
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        """Return what is below a folder, by one request as of S3."""
        path = self._strip_protocol(path)

        def listed() -> dict[str, dict[str, Any]]:
            if maxdepth == 1:
                return {entry["name"]: entry for entry in self._children(path)}
            found = {other: self.store.entry(other) for other in self.store.below(path)}
            if withdirs:
                for other in list(found):
                    parent = posixpath.dirname(other)
                    while len(parent) > len(path):
                        found[parent] = {"name": parent, "size": 0, "type": "directory"}
                        parent = posixpath.dirname(parent)
            return found

        entries = self.store.do(f"lists all of {path}", listed)
        return entries if detail else list(entries)

    def _read(self, path: str) -> bytes:
        if path not in self.store.objects:
            raise FileNotFoundError(path)
        return self.store.objects[path].data

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return the bytes of an object."""
        path = self._strip_protocol(path)
        return self.store.do(f"reads {path}", lambda: self._read(path))[start:end]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Return an object as a file: read whole, and written whole when it is closed."""
        path = self._strip_protocol(path)
        if mode == "rb":
            return io.BytesIO(self.store.do(f"reads {path}", lambda: self._read(path)))
        return _Upload(self, path)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write an object; ``create`` only if it is not there, as far as the store is strict."""
        path, store, data = self._strip_protocol(path), self.store, bytes(value)
        was_there: list[bool] = []

        def write() -> None:
            is_there = path in store.objects if store.creates == "strict" else any(was_there)
            if mode == "create" and is_there:
                raise FileExistsError(path)
            store.put(path, data)

        def look() -> None:
            was_there.append(store.creates == "late" and path in store.objects)

        store.do(f"{'creates' if mode == 'create' else 'writes'} {path}", write, is_write=True, first=look)

    def rm_file(self, path: str) -> None:
        """Delete an object; nothing happens where there is none, as on S3."""
        path = self._strip_protocol(path)
        self.store.do(f"deletes {path}", lambda: self.store.remove(path), is_write=True)

    def copy(self, path: str, other: str) -> None:
        """Write an object's bytes to another path."""

        def write() -> None:
            self.store.put(other, self._read(path))

        self.store.do(f"copies {path} to {posixpath.basename(other)}", write, is_write=True)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: there are no folders."""


class _Upload(io.BytesIO):
    def __init__(self, filesystem: SimulatedFileSystem, path: str) -> None:
        super().__init__()
        self._filesystem, self._path = filesystem, path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._filesystem.pipe_file(self._path, data)
