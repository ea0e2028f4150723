"""A thread that nobody waits for at the end of the process, whose result or error reaches who asked."""

from __future__ import annotations

import threading

import pytest

from tonearm.web.daemon_threads import in_daemon_thread


def test_who_waits_gets_the_result_of_a_daemon_thread() -> None:
    thread = in_daemon_thread("named", threading.current_thread).result(5)
    assert (thread.name, thread.daemon) == ("named", True)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_whatever_the_work_raises_is_told_to_who_waits(error: BaseException) -> None:
    def work() -> None:
        raise error

    assert in_daemon_thread("fails", work).exception(5) is error


def test_work_in_progress_is_not_cancelled() -> None:
    go_on = threading.Event()
    outcome = in_daemon_thread("waits", lambda: go_on.wait(5))
    assert not outcome.cancel()
    go_on.set()
    assert outcome.result(5) is True
