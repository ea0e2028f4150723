"""A server, from nothing to the first request, and from the last one to nothing without one lost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tonearm import extras
from tonearm.api.flags import serve_settings
from tonearm.errors import UsageError
from tonearm.models.runtimes import choose, count_gpus
from tonearm.planning.preparation import check_gains
from tonearm.settings import ServeSettings
from tonearm.storage.uris import shown

if TYPE_CHECKING:
    from tonearm.tagging import HeadPlan
    from tonearm.web.engines.engine import Engine
    from tonearm.web.listener import Listener

# How long a line waits for whoever reads standard output.
SAY_S = 1.0


class ServeWatcher(Protocol):
    """Reports how a server starts and stops."""

    def starting(self) -> None:
        """Told once nothing speaks against it, before the models are loaded."""

    def serving(self, url: str, engine: str) -> None:
        """Told where it takes requests, and what decodes and scores: ``process`` or ``ray``."""

    def stopping(self) -> None:
        """Told that it takes no more, and finishes what it has."""

    def stopped(self, num_left: int) -> None:
        """Told the end, and how many requests were cut off."""


def serve(*, watcher: ServeWatcher, output: int = 1, **flags: object) -> None:
    """Serve until SIGINT or SIGTERM: what ``tonearm serve`` does. To be called in a process's main thread.

    Args:
        watcher: reports how it goes.
        output: descriptor that takes the lines of the access log, where no file is named for it.
        flags: fields of ``settings.ServeSettings``, and ``api.flags.ModelFlags``.

    Raises:
        UsageError: a port that is taken, an address without keys, a package that is missing.
        CheckpointError, SettingsError: models or settings that cannot be used.
    """
    extras.require("serve", "tonearm serve")
    from tonearm.web import app, listener
    from tonearm.web.engines.process_engine import prepared
    from tonearm.web.requests.admission import Gate, is_loopback

    settings, plans = prepared(serve_settings(flags))
    if not settings.api_keys and not is_loopback(settings.host):
        raise UsageError(
            f"got --host {settings.host} without API keys, expected keys for anything but this machine; make one with "
            "`tonearm keys new NAME` and give --api-key-file"
        )
    _check_port(settings.host, settings.port)
    # Only for what it refuses: a runtime that this machine lacks is said before models are loaded.
    choose(settings.models.runtime, settings.models.precision, None)
    check_gains(plans, settings.models)
    kind = settings.engine if settings.engine != "auto" else _fitting_engine()
    with tempfile.TemporaryDirectory(prefix="tonearm-serve-") as folder:
        watcher.starting()
        with (
            _access_log(settings, Path(folder), output) as path,
            _engine(kind, settings, plans, Path(folder) / "metrics") as make_engine,
        ):
            settings, gate = dataclasses.replace(settings, access_log=path), Gate(settings)
            with listener.listening(lambda: app.build_app(make_engine(), settings, gate), settings) as running:
                name = f"[{settings.host}]" if ":" in settings.host else settings.host
                watcher.serving(f"http://{name}:{settings.port}/", kind)
                _wait_for_signal(running)
                watcher.stopping()
                num_left = running.call(gate.drain(settings.drain_timeout_s), settings.drain_timeout_s + 5.0)
        watcher.stopped(num_left)


def _fitting_engine() -> str:
    return "ray" if os.environ.get("RAY_ADDRESS") or count_gpus() else "process"


@contextlib.contextmanager
def _engine(
    kind: str, settings: ServeSettings, plans: dict[str, HeadPlan], metrics_folder: Path
) -> Iterator[Callable[[], Engine]]:
    """Yield what makes the engine in the listener's event loop."""
    if kind == "ray":
        from tonearm.distributed.serving import app as server

        with server.engine(settings, plans, metrics_folder) as make:
            yield make
        return
    from tonearm.web import telemetry
    from tonearm.web.engines.process_engine import ProcessEngine

    telemetry.keep()
    engine = ProcessEngine(settings, plans)
    try:
        yield lambda: engine
    finally:
        engine.close()


def _check_port(host: str, port: int) -> None:
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            # As the listener does: the port of a server that has just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # a name that DNS could not have is the second
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{shown(host)} port {port} cannot be listened on ({reason}); give another --host or --port"
        ) from None


def takes(descriptor: int) -> bool:
    """Return whether a write would not block: a pipe that nobody reads must not keep a server from ending."""
    return bool(select.select([], [descriptor], [], SAY_S)[1])


@contextlib.contextmanager
def _access_log(settings: ServeSettings, folder: Path, output: int) -> Iterator[str]:
    """Yield where the ingress writes its lines: the file that was asked for, or a pipe to standard output."""
    if settings.access_log is not None:
        log = Path(settings.access_log).absolute()
        try:
            # A pipe that nobody reads must not be waited for.
            os.close(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"the access log {shown(str(log))} cannot be written ({reason}); give another") from None
        yield str(log)
        return
    path = folder / "access"
    os.mkfifo(path)
    # Open for both, so that neither side waits for the other and the end of one writer is not the end of the pipe.
    pipe = os.open(path, os.O_RDWR)
    ended = b"\0"

    def copy() -> None:
        is_last = False
        while not is_last:
            lines = os.read(pipe, 2**16)
            is_last = lines.endswith(ended)
            with contextlib.suppress(OSError):
                os.write(output, lines.removesuffix(ended))

    thread = threading.Thread(target=copy, name="access log", daemon=True)
    thread.start()
    try:
        yield str(path)
    finally:
        if takes(pipe):
            os.write(pipe, ended)
            thread.join(timeout=5)
        if not thread.is_alive():
            os.close(pipe)


def _wait_for_signal(listener: Listener) -> None:
    stopped = threading.Event()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only here, where models are loaded: until now Ctrl-C has ended the command at once.
        before[number] = signal.signal(number, lambda *_: stopped.set())
    try:
        # A wait without an end would not let Python see the signal on every platform.
        while not stopped.wait(1.0) and listener.is_alive:
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
