"""``tonearm doctor``: each check is said as it ends, whatever happens to the ones after it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from tests.commands import environment
from tests.processor_card import ProcessorCard
from tonearm.api import doctor
from tonearm.cli.doctor import doctor as printed
from tonearm.distributed.cluster import session
from tonearm.errors import ClusterError

# A machine on which Ray takes for ever to start.
SCRIPT = """
import sys, time
from tonearm import cli
from tonearm.api import doctor
doctor._ray = lambda: time.sleep(60)
sys.argv = ["tonearm", "doctor"]
cli.main()
"""


@contextlib.contextmanager
def failing(error: Exception) -> Iterator[None]:
    raise error
    yield


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ClusterError("a local Ray could not be reached: timeout; see `tonearm doctor`"),
            "could not be reached: timeout",
        ),
        (RuntimeError("no sockets\nhere"), "RuntimeError: no sockets"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(session, "session", lambda *_: failing(error))
    for name in ("_packages", "_decoding"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "_models", lambda: iter([doctor.Finding("model", "ok", "the last one")]))
    assert printed() == 1
    lines = capsys.readouterr().out.splitlines()
    (ray,) = [line for line in lines if line.startswith("bad")]
    assert ray.split(maxsplit=2)[1:] == [
        "ray",
        said if said.startswith(("Runtime", "Assert")) else f"a local Ray {said}",
    ]
    assert lines[0].startswith("ok   machine") and lines[-1] == "ok   model           the last one"


def test_a_check_that_breaks_off_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Any]:
        raise FileNotFoundError("/nowhere")
        yield

    for name in ("_machine", "_packages", "_storage", "_decoding", "_ray", "_gpus", "_models", "_environment"):
        monkeypatch.setattr(doctor, name, broken)
    assert {(finding.status, finding.text) for finding in doctor.doctor()} == {("bad", "FileNotFoundError: /nowhere")}
    assert len(list(doctor.doctor())) == 8


@pytest.mark.processes
def test_each_check_is_printed_as_it_ends_and_ctrl_c_ends_it() -> None:
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(COLUMNS="40")
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        seen = []
        while not seen or "decoding" not in seen[-1]:  # while Ray is waited for
            seen.append(process.stdout.readline())
            assert seen[-1]
        assert seen[0].startswith("ok   machine") and "\x1b" not in "".join(seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 4
        assert process.stderr.read() == "tonearm: stopped\n"


@pytest.mark.parametrize(
    ("is_stale", "status", "text"), [(False, "ok", "with graphs, which says"), (True, "bad", "without graphs, without")]
)
def test_a_gpu_is_checked(monkeypatch: pytest.MonkeyPatch, is_stale: bool, status: str, text: str) -> None:
    card = ProcessorCard()
    if is_stale:
        monkeypatch.setattr(card, "capture", lambda forward, windows: mock.Mock(replay=lambda _: forward(windows)))
    monkeypatch.setattr(doctor, "gpu_names", lambda: ["one card"])
    monkeypatch.setattr("tonearm.models.runtimes.count_gpus", lambda: 1)
    monkeypatch.setattr("tonearm.models.classifier.CudaCard", lambda device: card)
    monkeypatch.setattr(doctor, "GPU_BATCH", 1)
    (finding,) = doctor._gpus()
    assert finding.status == status
    assert finding.text.startswith(f"one card: fp16 {text}"), finding.text
