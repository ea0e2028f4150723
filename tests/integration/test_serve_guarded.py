"""A server with keys, limits and a short queue: who comes in, what happens when it is full, and how it ends."""

from __future__ import annotations

import collections
import concurrent.futures
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

import tonearm
from tests.commands import wait_for
from tests.one_process import tonearm as run_tonearm
from tests.serving import Server, noise, serving
from tonearm.client import Retries
from tonearm.web.requests.keys import NewKey, new_key

MAX_QUEUE = 8
CONFIG = f"""
[serve]
max_queue = {MAX_QUEUE}
rate_limit = "400/minute"
"""


@pytest.fixture(scope="module")
def keys() -> dict[str, NewKey]:
    return {name: new_key(name) for name in ("app", "load", "monitor", "slow")}


@pytest.fixture(scope="module")
def server(keys: dict[str, NewKey], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "serve.toml").write_text(CONFIG)
    (folder / "keys").write_text("# who may ask\n" + "\n".join(line for _, line in list(keys.values())[1:]) + "\n")
    arguments = ("--config", folder / "serve.toml", "--api-key-file", folder / "keys")
    with serving(*arguments, "--access-log", folder / "access.jsonl", TONEARM_API_KEYS=keys["app"].line) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(server: Server, key: str, data: bytes, path: str = "/v1/tag") -> httpx.Response:
    return httpx.post(f"{server.url}{path}", content=data, headers=bearer(key), timeout=120)


def test_only_known_keys_come_in(server: Server, keys: dict[str, NewKey]) -> None:
    clip = noise(2)
    for name in ("app", "load"):  # one from the environment, one from the file
        assert ask(server, keys[name].key, clip).status_code == 200
    digest = keys["app"].line.partition(":")[2]
    for headers in (
        {},
        bearer("ta-wrong"),
        bearer(digest),
        {"x-api-key": ""},
        {"Authorization": f"Basic {keys['app'].key}"},
    ):
        for method, path in (("POST", "/v1/tag"), ("POST", "/v1/bulk"), ("POST", "/models/x"), ("GET", "/metrics")):
            response = httpx.request(method, f"{server.url}{path}", content=clip, headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
    assert httpx.post(f"{server.url}/v1/tag", content=clip, headers={"x-api-key": keys["app"].key}).status_code == 200
    for path in ("/", "/docs", "/openapi.json", "/healthz"):
        assert httpx.get(server.url + path).status_code == 200
    with tonearm.Client(server.url, api_key=keys["app"].key) as client:
        assert client.tag(clip).duration_s == 2.0


def test_keys_and_audio_stay_out_of_the_log(server: Server, keys: dict[str, NewKey], tmp_path: Path) -> None:
    key, line = keys["app"]
    request_id = ask(server, key, noise(1)).headers["x-request-id"]
    log = next(Path(part) for part in server.process.args if str(part).endswith("access.jsonl"))
    wait_for(lambda: request_id in log.read_text(), timeout_s=60, what="the line")
    text = log.read_text() + "\n".join([*server.lines, *server.errors])
    assert '"who": "app"' in text
    assert key not in text and line.partition(":")[2] not in text and "RIFF" not in text


def test_overload_is_shed_and_passes(server: Server, keys: dict[str, NewKey]) -> None:
    clip, count = noise(40), 10 * MAX_QUEUE
    together = threading.Barrier(count)

    def one(_: int) -> httpx.Response:
        together.wait()
        return ask(server, keys["load"].key, clip)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(one, range(count)))
    counts = collections.Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 503}, counts
    assert counts[200] >= MAX_QUEUE
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "busy"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert server.metrics(**bearer(keys["monitor"].key))["tonearm_requests_in_hand"] == 0
    assert {ask(server, keys["load"].key, clip).status_code for _ in range(MAX_QUEUE)} == {200}


def test_the_client_waits_out_an_overload(server: Server, keys: dict[str, NewKey]) -> None:
    clip = noise(20)
    retries = Retries(num_attempts=30)

    def one(_: int) -> float:
        with tonearm.Client(server.url, api_key=keys["load"].key, retries=retries) as client:
            return client.tag(clip).duration_s

    with concurrent.futures.ThreadPoolExecutor(4 * MAX_QUEUE) as pool:
        assert list(pool.map(one, range(4 * MAX_QUEUE))) == [20.0] * (4 * MAX_QUEUE)


def test_a_client_that_asks_too_often(server: Server, keys: dict[str, NewKey]) -> None:
    url, headers = f"{server.url}/v1/tag", bearer(keys["slow"].key)
    with httpx.Client() as client:
        for _ in range(401):
            response = client.post(url, content=b"no audio", headers=headers)
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(response.headers["retry-after"]) <= 60
    assert ask(server, keys["app"].key, noise(1)).status_code == 200  # the limit is each key's own


def test_a_killed_decoder_under_load(server: Server, keys: dict[str, NewKey]) -> None:
    clip, answers = noise(8), []
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            asked = [pool.submit(ask, server, keys["app"].key, clip) for _ in range(4)]
            for child in psutil.Process(server.process.pid).children():
                if "tonearm.audio.sandbox_child" in child.cmdline():
                    child.kill()
            answers += [each.result().status_code for each in asked]
    assert answers == [200] * 12


def test_requests_in_progress_are_finished_at_shutdown(server: Server, keys: dict[str, NewKey]) -> None:
    """The last test: it stops the server."""
    clip = noise(300)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, server, keys["app"].key, clip) for _ in range(4)]

        def are_in_hand() -> bool:
            if all(answer.done() for answer in answers):  # between two looks, which take long on a busy machine
                assert [answer.result().status_code for answer in answers] == [200] * 4
                answers[:] = [pool.submit(ask, server, keys["app"].key, clip) for _ in range(4)]
            return server.metrics(**bearer(keys["monitor"].key))["tonearm_requests_in_hand"] == 4

        wait_for(are_in_hand, timeout_s=90, what="the requests")
        stopped = pool.submit(server.stop)
        assert [answer.result().status_code for answer in answers] == [200] * 4
        assert stopped.result() == 0
    assert server.lines[-2:] == ["stopping: finishing what is in progress", "stopped"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "without API keys"),
        (["--allow-uri", "/music"], "local files are never read"),
        (["--rate-limit", "often"], "expected a rate such as 60/minute"),
        (["--api-key-file", "/no/such/file"], "cannot be read"),
        (["--access-log", "/no/such/folder/log"], "cannot be written"),
        (["--genre-model", "/no/such/model"], "got --demo-models together with"),
    ],
)
def test_a_server_that_cannot_start_says_so(arguments: list[str], said: str) -> None:
    run = run_tonearm("serve", "--demo-models", "--port", "65431", *arguments)
    assert run.returncode == 2, run.stderr
    assert said in run.stderr and run.stderr.count("\n") <= 2


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = run_tonearm("serve", "--demo-models", "--port", str(port))
    assert run.returncode == 2
    assert f"port {port} cannot be listened on" in run.stderr
