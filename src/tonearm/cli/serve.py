"""``tonearm serve``: one command from nothing to a server, and from a server to nothing without a lost request."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm import demo, extras
from tonearm.api.flags import serve_settings
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.errors import UsageError
from tonearm.models.runtimes import choose, count_gpus
from tonearm.settings import ServeSettings
from tonearm.storage.uris import shown
from tonearm.web.requests.keys import KEY_LABEL, LINE_LABEL, new_key
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.tagging import HeadPlan
    from tonearm.web.engines.engine import Engine
    from tonearm.web.listener import Listener

SAY_S = 1.0
ENGINES = {
    "process": "files are decoded in child processes and scored in this one; --engine ray has Ray Serve do it",
    "ray": "files are decoded and scored in deployments of Ray Serve; --engine process does without it",
}


def make_key(name: str) -> int:
    """Print a new API key and the line that lets it in; return the exit status."""
    key, line = new_key(name)
    print(f"{KEY_LABEL} {key}")
    print(f"{LINE_LABEL} {line}")
    return 0


def read_settings(flags: Mapping[str, Any]) -> ServeSettings:
    """Return the settings of flags and file; a missing extra is said before anything that is wrong with them.

    Raises:
        UsageError: the packages of a server are not installed, or settings that cannot be used.
    """
    extras.require("serve", "tonearm serve")
    return serve_settings(flags)


def serve(settings: ServeSettings, *, demo_models: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    Raises:
        UsageError: a port that is taken, an address without keys, a package that is missing.
        CheckpointError, SettingsError: models that cannot be used.
    """
    from tonearm.web.app import build_app
    from tonearm.web.engines.process_engine import prepared
    from tonearm.web.listener import listening
    from tonearm.web.requests.admission import Gate, is_loopback

    stop_like_ctrl_c()  # also before it serves
    settings, plans = prepared(settings)
    if not settings.api_keys and not is_loopback(settings.host):
        raise UsageError(
            f"got --host {settings.host} without API keys, expected keys for anything but this machine; make one with "
            "`tonearm serve --new-key NAME` and give --api-key-file"
        )
    _check_port(settings.host, settings.port)
    choose(settings.models.runtime, settings.models.precision, None)
    kind = settings.engine if settings.engine != "auto" else _fitting_engine()
    with tempfile.TemporaryDirectory(prefix="tonearm-serve-") as folder, _standard_output() as output:
        if demo_models:
            print(demo.NOTICE, file=sys.stderr)
        with (
            _access_log(settings, Path(folder), output) as path,
            _engine(kind, settings, plans, Path(folder) / "metrics") as make_engine,
        ):
            settings, gate = dataclasses.replace(settings, access_log=path), Gate(settings)
            with listening(lambda: build_app(make_engine(), settings, gate), settings) as listener:
                name = f"[{settings.host}]" if ":" in settings.host else settings.host
                url = f"http://{name}:{settings.port}/"
                _say(output, f"serving at {url} (API at /docs); Ctrl-C finishes what is in hand")
                _say(output, ENGINES[kind])
                _wait_for_signal(listener)
                _say(output, "stopping: finishing what is in hand")
                num_left = listener.call(gate.drain(settings.drain_timeout_s), settings.drain_timeout_s + 5.0)
        cut = counted(num_left, "request", "was cut off", "were cut off")
        _say(output, f"stopped; {cut}" if num_left else "stopped")
    return 0


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
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # a name that DNS could not have is the second
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{shown(host)} port {port} cannot be listened on ({reason}); give another --host or --port"
        ) from None


@contextlib.contextmanager
def _standard_output() -> Iterator[int]:
    """Yield a copy of standard output's descriptor: while Ray is quiet, the original goes to a log file."""
    sys.stdout.flush()
    copy = os.dup(1)
    try:
        yield copy
    finally:
        os.close(copy)


def _say(output: int, text: str) -> None:
    with contextlib.suppress(OSError):
        if _takes(output):
            os.write(output, f"{text}\n".encode())


def _takes(descriptor: int) -> bool:
    """Return whether what is written goes on its way: a pipe that nobody reads must not keep a server from ending."""
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
        if _takes(pipe):
            os.write(pipe, ended)
            thread.join(timeout=5)
        if not thread.is_alive():
            os.close(pipe)


def _wait_for_signal(listener: Listener) -> None:
    stopped = threading.Event()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, lambda *_: stopped.set())
    try:
        # A wait without an end would not let Python see the signal on every platform.
        while not stopped.wait(1.0) and listener.is_alive:
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
