"""A real ``tonearm serve`` in a process of its own, and what the tests ask of it."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile

from tests.commands import start_tonearm, wait_for

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 90


def noise(seconds: float) -> bytes:
    """Return a WAV of noise, mono at 16 kHz."""
    file = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, int(16000 * seconds))
    soundfile.write(file, samples, 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


class Server:
    """A running server, and everything that it has written."""

    def __init__(self, *arguments: str | Path, host: str = "127.0.0.1", models: bool = True, **extra: str) -> None:
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.lines: list[str] = []
        demo = ["--demo-models"] if models else []
        self.process = start_tonearm("serve", *demo, "--port", str(self.port), *arguments, **extra)
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def wait(self) -> None:
        """Return once it serves."""
        wait_for(
            lambda: any(line.startswith("serving at") for line in self.lines) or self.process.poll() is not None,
            timeout_s=START_TIMEOUT_S,
            what="the server",
        )
        assert self.process.poll() is None, "\n".join(self.errors)

    def stop(self) -> int:
        """End it as a scheduler would, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        for reader in self.readers:
            reader.join(timeout=10)
        return status

    def replica(self, name: str) -> psutil.Process:
        """Return the process of a deployment's replica."""
        found = self.find_replica(name)
        assert found is not None, f"no replica of {name}"
        return found

    def find_replica(self, name: str) -> psutil.Process | None:
        """Return the process of a deployment's replica, or None while there is none."""
        for process in psutil.process_iter(["cmdline"]):
            if f"ServeReplica:tonearm:{name}" in " ".join(process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.Error):
                    if any(parent.pid == self.process.pid for parent in process.parents()):
                        return process
        return None

    def metrics(self, **headers: str) -> dict[str, float]:
        """Return every sample of /metrics by its name and labels."""
        text = httpx.get(f"{self.url}/metrics", headers=headers).raise_for_status().text
        rows = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in rows}

    def log(self, request_id: str) -> dict[str, Any]:
        """Return the log line of a request."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            lines = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
            found[:] = [line for line in lines if line["request_id"] == request_id]
            return bool(found)

        wait_for(is_there, timeout_s=60, what=f"the log line of {request_id}")
        return found[0]


@contextlib.contextmanager
def serving(*arguments: str | Path, **options: Any) -> Iterator[Server]:
    """Yield a server that answers; it ends with the block."""
    server = Server(*arguments, **options)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
