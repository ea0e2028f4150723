"""``tonearm serve`` against itself without batching and against FastAPI with ``transformers.pipeline``, under load."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from bench.end_to_end import TOLERANCE, Section
from tonearm import demo
from tonearm.demo.songs import RATE, compose

START_S = 180
# Requests of so many clients: each waits for its answer before it asks again.
LOADS = {1: 12, 8: 32, 64: 96}
QUICK_LOADS = {1: 20, 8: 60, 64: 192}
SETTINGS = "[serve]\nmax_queue = 256\nbatch_windows = {batch_windows}\nbatch_wait_s = {batch_wait_s}\n"


@dataclasses.dataclass(frozen=True)
class Case:
    """One head under load."""

    name: str
    head: str
    model: Path
    clip: bytes
    loads: dict[int, int]


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    yield Case("demo genre model, 5 s", "genre", Path(demo.genre_model_path()), clip(5.0), QUICK_LOADS)
    if quick:
        return
    from bench.checkpoints import save_ast, save_distilhubert

    genre, tags = save_distilhubert(folder / "serve-distilhubert"), save_ast(folder / "serve-ast")
    yield Case("full-size DistilHuBERT, 5 s", "genre", genre, clip(5.0), LOADS)
    yield Case("full-size AST, 10.24 s", "tags", tags, clip(10.24), {1: 6, 8: 16, 64: 64})


def clip(seconds: float) -> bytes:
    """Return a song as FLAC, mono, 44.1 kHz: both sides decode and resample it."""
    samples = compose("rock", 1, seconds).samples.mean(axis=0)[: int(seconds * RATE)]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue()


def measure(case: Case, folder: Path) -> Section:
    """Put each server under each load."""
    forward = _forward_rate(case)
    rows, answers = [], {}
    for name, server in (
        ("tonearm serve", _tonearm(case, folder, batch_windows=16, batch_wait_s=0.005)),
        ("tonearm serve, a window a pass", _tonearm(case, folder, batch_windows=1, batch_wait_s=0.0)),
        ("FastAPI + transformers.pipeline", _plain(case)),
    ):
        with server as url:
            for num_clients, num_requests in case.loads.items():
                rate, latencies_s, answer = _load(url, case.clip, num_clients, num_requests)
                rows.append((name, num_clients, rate, *np.percentile(latencies_s, (50, 95, 99))))
                answers[name] = {entry["label"]: entry["score"] for entry in answer}
    first, *others = answers.values()
    difference = max(abs(first[label] - other[label]) for other in others for label in first.keys() & other.keys())
    lines = [
        f"## Serving: {case.name}",
        "",
        f"The forward pass alone, decoded audio in memory, does {forward:.2f} windows a second.",
        "",
        "| | clients | requests a second | of the forward rate | p50 | p95 | p99 |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {count} | {rate:.2f} | {rate / forward:.0%} | {p50:.2f} s | {p95:.2f} s | {p99:.2f} s |"
            for name, count, rate, p50, p95, p99 in rows
        ),
    ]
    return Section("\n".join(lines), difference < TOLERANCE)


def _forward_rate(case: Case) -> float:
    command = [sys.executable, "-m", "bench.serving", str(case.model)]
    made = subprocess.run(command, input=case.clip, capture_output=True, check=True)
    return float(made.stdout.split()[-1])


def forward_rate(model: str, data: bytes) -> float:
    """Return windows a second of the forward passes alone, decoded audio in memory."""
    from tonearm.audio.decode import decode_waveform
    from tonearm.models.classifier import Classifier

    classifier = Classifier.load(model)
    waveform, _ = decode_waveform(data, classifier.info.sample_rate)
    window = waveform[: int(classifier.window_s * classifier.info.sample_rate)]
    classifier.score([window] * 2)
    num_windows, started = 0, time.perf_counter()
    while time.perf_counter() - started < 5.0:
        classifier.score([window] * 16)
        num_windows += 16
    return num_windows / (time.perf_counter() - started)


@contextlib.contextmanager
def _tonearm(case: Case, folder: Path, **settings: float) -> Iterator[str]:
    config = folder / "serve.toml"
    config.write_text(SETTINGS.format(**settings))
    heads = {"genre": "none", "tags": "none"} | {case.head: str(case.model)}
    port = _free_port()
    models = ["--genre-model", heads["genre"], "--tag-model", heads["tags"], "--config", str(config)]
    with _running(["tonearm", "serve", "--port", str(port), "--access-log", "/dev/null", *models], port, "/healthz"):
        yield f"http://127.0.0.1:{port}/models/{case.head}"


@contextlib.contextmanager
def _plain(case: Case) -> Iterator[str]:
    port = _free_port()
    function = {"genre": "softmax", "tags": "sigmoid"}[case.head]
    with _running(["bench.plain_server", str(case.model), str(port), function], port, "/docs"):
        yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def _running(module: list[str], port: int, path: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", *module], stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"{module[0]} did not start")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _load(url: str, data: bytes, num_clients: int, num_requests: int) -> tuple[float, list[float], Any]:
    """Return requests a second, each one's seconds, and the last answer."""
    todo, latencies_s, answers = iter(range(num_requests)), [], []
    lock = threading.Lock()
    headers = {"content-type": "application/octet-stream"}

    def one_client() -> None:
        with httpx.Client(timeout=600) as client:
            while True:
                with lock:
                    if next(todo, None) is None:
                        return
                started = time.perf_counter()
                answer = client.post(url, content=data, headers=headers).raise_for_status()
                latencies_s.append(time.perf_counter() - started)
                answers.append(answer)

    httpx.post(url, content=data, headers=headers, timeout=600).raise_for_status()  # the first one warms up
    threads = [threading.Thread(target=one_client) for _ in range(num_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - started
    if len(answers) != num_requests:
        raise RuntimeError(f"{url}: {num_requests - len(answers)} of {num_requests} requests failed")
    return num_requests / elapsed_s, latencies_s, answers[-1].json()


if __name__ == "__main__":
    print(forward_rate(sys.argv[1], sys.stdin.buffer.read()))
