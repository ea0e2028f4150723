"""``tonearm serve`` against FastAPI with ``transformers.pipeline``, under load: every server asked in turns."""

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
import psutil
import soundfile

from bench.clips import write_clips
from bench.end_to_end import TOLERANCE
from bench.figures import Figure, Section
from bench.runs import run_tag
from tonearm import demo
from tonearm.demo.songs import RATE, compose
from tonearm.wording import counted

START_S = 180
ROUNDS = 3
PLAIN = "FastAPI + transformers.pipeline"
OURS = {"fp32": "tonearm serve", "int8": "tonearm serve, int8"}
# The weights are random, so the guard, which is for trained ones, would only say that they are.
SETTINGS = "[serve]\nmax_queue = 256\n[models]\nint8_guard = false\n"
CALIBRATION_CLIPS = 6
Server = tuple[str, "subprocess.Popen[bytes]"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One head under load.

    Args:
        loads: requests by the number of clients: each waits for its answer before it asks again.
        goals: requests a second of a precision, as a multiple of the plain server's.
        num_more: requests in the end, to see what memory they leave behind.
    """

    name: str
    head: str
    model: Path
    clip: bytes
    loads: dict[int, int]
    goals: dict[str, float]
    num_more: int = 0


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    small, loads = clip(5.0), {1: 60, 8: 240, 64: 384}
    yield Case("demo genre model, 5 s", "genre", Path(demo.genre_model_path()), small, loads, {"fp32": 2.0}, 10_000)
    if quick:
        return
    from bench.checkpoints import save_ast, save_distilhubert

    genre, tags = save_distilhubert(folder / "serve-distilhubert"), save_ast(folder / "serve-ast")
    goals = {"fp32": 1.0, "int8": 2.5}
    yield Case("full-size DistilHuBERT, 5 s", "genre", genre, small, {1: 8, 8: 32, 64: 96}, goals)
    yield Case("full-size AST, 10.24 s", "tags", tags, clip(10.24), {1: 2, 8: 8, 64: 64}, goals)


def clip(seconds: float) -> bytes:
    """Return a song as FLAC, mono, 44.1 kHz: both sides decode and resample it."""
    samples = compose("rock", 1, seconds).samples.mean(axis=0)[: int(seconds * RATE)]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue()


def measure(case: Case, folder: Path) -> Section:
    """Ask every server under every load, in turns; those that are not asked wait."""
    if "int8" in case.goals:
        _calibrate(case, folder)
    rounds: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    answers: dict[str, dict[str, float]] = {}
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        servers = {OURS[each]: stack.enter_context(_tonearm(case, folder, each)) for each in case.goals}
        servers[PLAIN] = stack.enter_context(_plain(case))
        for number in range(ROUNDS):
            for num_clients, num_requests in case.loads.items():
                for name in list(servers) if number % 2 == 0 else reversed(servers):
                    rate, latencies_s, answer = _load(servers[name][0], case.clip, num_clients, num_requests)
                    p50, p99 = np.percentile(latencies_s, (50, 99))
                    rounds.setdefault((name, num_clients), []).append((rate, p50, p99))
                    answers[name] = {entry["label"]: entry["score"] for entry in answer}
        if case.num_more:
            name = f"{case.name}: growth of memory in {case.num_more:,} requests"
            growth = _growth(servers[OURS["fp32"]], case) / 2**20
            figures.append(Figure(name, (growth,), 50.0, " MiB", is_at_most=True))
    first, plain = answers[OURS["fp32"]], answers[PLAIN]
    difference = max(abs(first[label] - plain[label]) for label in first.keys() & plain.keys())
    return Section(_text(case, rounds), difference < TOLERANCE, (*_figures(case, rounds), *figures))


def _figures(case: Case, rounds: dict[tuple[str, int], list[tuple[float, float, float]]]) -> Iterator[Figure]:
    def against_plain(name: str, count: int, column: int) -> tuple[float, ...]:
        pairs = zip(rounds[name, count], rounds[PLAIN, count], strict=True)
        return tuple(own[column] / peer[column] for own, peer in pairs)

    for precision, goal in case.goals.items():
        for count in case.loads:
            title = f"{OURS[precision]}, {case.name}, {counted(count, 'client')}: requests a second against"
            yield Figure(f"{title} a plain server's", against_plain(OURS[precision], count, 0), goal)
    title = f"{OURS['fp32']}, {case.name}, 8 clients: p99 against a plain server's"
    yield Figure(title, against_plain(OURS["fp32"], 8, 2), 1.0, is_at_most=True)


def _text(case: Case, rounds: dict[tuple[str, int], list[tuple[float, float, float]]]) -> str:
    lines = [
        f"## Serving: {case.name}",
        "",
        f"Medians of {ROUNDS} rounds; every server in each, in turns.",
        "",
        "| | clients | requests a second | p50 | p99 |",
        "|---|---:|---:|---:|---:|",
    ]
    for (name, count), measured in sorted(rounds.items(), key=lambda item: (item[0][1], item[0][0])):
        rate, p50, p99 = np.median(measured, axis=0)
        lines.append(f"| {name} | {count} | {rate:.2f} | {p50:.3f} s | {p99:.3f} s |")
    return "\n".join(lines)


def _growth(server: Server, case: Case) -> int:
    """Return how many bytes the server and its children have more after many requests."""
    url, process = server

    def held() -> int:
        main = psutil.Process(process.pid)
        return sum(int(each.memory_info().rss) for each in [main, *main.children(recursive=True)])

    before = held()
    _load(url, case.clip, 8, case.num_more)
    return held() - before


def _models(case: Case) -> list[str]:
    models = {"genre": "none", "tags": "none"} | {case.head: str(case.model)}
    return ["--genre-model", models["genre"], "--tag-model", models["tags"]]


def _config(folder: Path) -> str:
    path = folder / "serve.toml"
    path.write_text(SETTINGS)
    return str(path)


def _calibrate(case: Case, folder: Path) -> None:
    clips = folder / "calibration"
    if not clips.is_dir():
        write_clips(clips, ["flac"] * CALIBRATION_CLIPS, seed=3)
    flags = ["--precision", "int8", "--config", _config(folder)]
    run_tag(clips, folder / f"calibrated-{case.head}", *_models(case), *flags, is_quiet=True)


@contextlib.contextmanager
def _tonearm(case: Case, folder: Path, precision: str) -> Iterator[Server]:
    port = _free_port()
    flags = ["--port", str(port), "--access-log", "/dev/null", "--precision", precision, "--config", _config(folder)]
    with _running(["tonearm", "serve", *flags, *_models(case)], port, "/healthz") as process:
        yield f"http://127.0.0.1:{port}/models/{case.head}", process


@contextlib.contextmanager
def _plain(case: Case) -> Iterator[Server]:
    port = _free_port()
    function = {"genre": "softmax", "tags": "sigmoid"}[case.head]
    with _running(["bench.plain_server", str(case.model), str(port), function], port, "/docs") as process:
        yield f"http://127.0.0.1:{port}/", process


@contextlib.contextmanager
def _running(module: list[str], port: int, path: str) -> Iterator[subprocess.Popen[bytes]]:
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
        yield process
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
