"""``tonearm serve --engine ray``: deployments of Ray Serve behind the same listener, and what happens when they die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.commands import wait_for
from tests.serving import Server, noise, serving

pytestmark = pytest.mark.slow
CONFIG = "[serve]\nbatch_windows = 2\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "serve.toml").write_text(CONFIG)
    with serving("--config", folder / "serve.toml", "--engine", "ray") as running:
        yield running


def ask(server: Server, data: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/tag", content=data, timeout=120)


def test_it_answers_and_counts(server: Server) -> None:
    """Chunks are larger than a batch may be, and each head is a process of its own, which says what it runs on."""
    served = httpx.get(f"{server.url}/v1/models").json()
    assert [(head["runs_on"]["precision"], head["runs_on"]["device"]) for head in served] == [("fp32", "cpu")] * 2
    before = server.metrics()
    result = ask(server, noise(95)).json()
    assert (result["coverage"], result["duration_s"]) == (1.0, 95.0)
    after = server.metrics()
    for head in ("genre", "tags"):
        name = f'tonearm_windows_total{{head="{head}"}}'
        assert after[name] - before.get(name, 0) >= 4
    name = 'tonearm_requests_total{method="POST",route="/v1/tag",status="200"}'
    # The client has its answer before the replica has counted it.
    wait_for(lambda: server.metrics().get(name, 0) == before.get(name, 0) + 1, timeout_s=20, what="the count")
    refused = ask(server, b"no audio")
    assert (refused.status_code, refused.json()["code"]) == (415, "not_audio")
    assert server.find_replica("Ingress") is None


@pytest.mark.parametrize("deployment", ["Genre", "Decoder"])
def test_a_killed_replica_under_load(server: Server, deployment: str) -> None:
    """A replica that is killed costs nobody an answer but a 503, and is replaced."""
    clip, ended = noise(8), threading.Event()
    seen: list[tuple[float, int]] = []

    def load() -> None:
        while not ended.is_set():
            status = ask(server, clip).status_code
            seen.append((time.monotonic(), status))
            ended.wait(0.7)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(seen) >= 3, what="some answers")
        victim = server.replica(deployment)
        killed = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        wait_for(
            lambda: any(when > killed + 1 and status == 200 for when, status in list(seen)),
            timeout_s=120,  # a busy machine takes half a minute to start a process with a model
            what="an answer after the kill",
        )
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert {status for _, status in seen} <= {200, 503}
    assert server.replica(deployment).pid != victim.pid
    # What waited in the dead process waits no more.
    assert server.metrics()['tonearm_waiting_windows{head="genre"}'] == 0


def test_a_model_that_cannot_answer_is_not_healthy(server: Server) -> None:
    """A model process that hangs makes the server unhealthy, and is replaced."""
    answers: list[httpx.Response] = []

    def answers_with(status: int) -> bool:
        answers.append(httpx.get(f"{server.url}/healthz", timeout=60))
        return answers[-1].status_code == status

    server.replica("Tags").suspend()
    wait_for(lambda: answers_with(503), what="an unhealthy server")
    body = answers[-1].json()
    assert body["status"] == "unavailable"
    assert body["models"]["genre"] == "ok" != body["models"]["tags"]
    wait_for(lambda: answers_with(200), what="its replacement")


def test_serve_ends_without_leaving_processes(server: Server, tmp_path: Path) -> None:
    """The last test: it stops the server."""
    assert server.stop() == 0
    assert server.lines[-2:] == ["stopping: finishing what is in progress", "stopped"]
    assert server.find_replica("Genre") is None
