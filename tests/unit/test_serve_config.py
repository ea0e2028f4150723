"""serve/config.yaml says what `serve deploy` takes, and names the settings and deployments that there are."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tonearm.api import serving
from tonearm.api.flags import serve_settings
from tonearm.cli import serve as verb
from tonearm.errors import SettingsError, UsageError
from tonearm.settings import ServeSettings, build
from tonearm.web.requests.admission import Gate, is_loopback, retry_after

CONFIG = Path(__file__).resolve().parents[2] / "serve" / "config.yaml"


def read_config() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return values


def test_serve_deploy_takes_it() -> None:
    (application,) = ServeDeploySchema.model_validate(read_config()).applications
    assert {deployment.name for deployment in application.deployments} == {"Ingress", "Decoder", "Genre", "Tags"}
    for deployment in application.deployments:
        assert deployment.autoscaling_config["max_replicas"] > deployment.autoscaling_config["min_replicas"]


def test_its_arguments_are_settings() -> None:
    (application,) = read_config()["applications"]
    settings = build(ServeSettings, application["args"])
    assert settings == ServeSettings()  # what it spells out are the defaults
    with pytest.raises(SettingsError, match="did you mean 'max_queue'"):
        build(ServeSettings, {**application["args"], "max_queu": 3})


def test_the_entry_point_holds_no_logic() -> None:
    assert len((CONFIG.parent / "app.py").read_text().splitlines()) <= 30


def test_demo_models_by_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.distributed.serving import app

    made: list[ServeSettings] = []
    monkeypatch.setattr(app, "application", made.append)
    app.build({"demo_models": True, "max_queue": 3, "models": {"batch_size": 2}})
    assert made[0].models.genre_model is not None
    assert made[0].models.genre_model.endswith("demo/models/genre")
    assert (made[0].max_queue, made[0].models.batch_size) == (3, 2)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "10.0.0.1", "::", "localhost.evil.org", "127.0.0.1.evil.org", None)],
)
def test_what_this_machine_is_called(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_retry_after_is_whole_seconds_and_bounded() -> None:
    assert [retry_after(value) for value in (-3.0, 0.2, 1.2, 1e9)] == ["1", "1", "2", "60"]


def test_a_full_gate_says_when_to_come_back() -> None:
    from tonearm.errors import RequestError

    gate = Gate(ServeSettings(max_queue=2))
    with gate.place(), gate.place():
        with pytest.raises(RequestError, match="2 requests are in hand") as caught:
            gate.check_room()
        assert caught.value.http_status == 503
        assert caught.value.retry_after_s is not None
    gate.check_room()
    gate.is_stopping = True
    with pytest.raises(RequestError, match="being stopped"):
        gate.check_room()


def test_flags_and_the_shared_tables_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tonearm.toml").write_text(
        "max_windows = 3\n[models]\nbatch_size = 4\n[train]\nepochs = 2\n[serve]\nport = 9000\nmax_queue = 7\n"
    )
    settings = serve_settings({"port": 9001, "tag_model": "none"})
    assert (settings.port, settings.max_queue, settings.models.batch_size) == (9001, 7, 4)
    assert settings.models.tag_model is None
    assert settings.max_windows is None  # tagging's own
    with pytest.raises(UsageError, match="got --demo-models together with"):
        serve_settings({"genre_model": "x", "demo_models": True})


def test_what_nobody_reads_does_not_keep_a_server_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SAY_S", 0.05)
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        started = time.monotonic()
        verb._say(writer, "stopped")
        assert time.monotonic() - started < 5
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("rate", ["0/minute", "5/minute;1/hour"])
def test_a_rate_that_means_something_else_is_refused(rate: str) -> None:
    with pytest.raises(SettingsError, match="expected a rate such as 60/minute"):
        Gate(ServeSettings(rate_limit=rate))


def test_a_name_that_dns_could_not_have_is_one_line() -> None:
    with pytest.raises(UsageError, match="cannot be listened on"):
        serving._check_port("a" * 64 + ".example", 8000)
