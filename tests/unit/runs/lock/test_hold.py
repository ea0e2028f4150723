"""A run that holds the lock beats, learns that it lost it, and frees it, whatever its store does."""

from __future__ import annotations

import dataclasses
import errno
import socket
import threading
from typing import Any

import pytest

from tests.commands import wait_for
from tests.unit.runs.lock.locks import ELSEWHERE, FakeClock, is_ours, leave, on_disk, path_of, take
from tonearm.errors import DestinationError, Stopped
from tonearm.runs.destination import Destination
from tonearm.runs.lock import hold as hold_module
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.lock.run_lock import Holder
from tonearm.storage import filesystems


def test_the_holder_beats(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    with run_lock.held(place):
        wait_for(lambda: on_disk(place)["beat"] >= 3, what="three beats", timeout_s=10)
        assert is_ours(place)


def test_a_suspended_holder_finds_that_another_has_taken_over(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    calls: list[Stopped] = []
    with run_lock.held(place) as first:
        first.on_lost(calls.append)
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with run_lock.held(place) as second:
            assert second.term == first.term + 1
            first.beat()
            assert on_disk(place)["token"] == second.token, "no beat over a foreign token"
            for _ in range(2):
                with pytest.raises(Stopped) as caught:
                    first.check()
            assert "process" in caught.value.message and "on elsewhere" in caught.value.message
            assert "what is written stays. Run the same command again" in caught.value.message
            assert "\n" not in caught.value.message
            first.beat()
            assert calls == [first.lost]
            second.check()
            first.release()
            assert on_disk(place)["token"] == second.token, "only its own lock is deleted"
            late: list[Stopped] = []
            first.on_lost(late.append)
            assert late == calls, "who asks late is told at once"
    assert not path_of(place).exists()


def test_the_beats_of_a_thread_end_with_the_loss(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    lost = threading.Event()
    with run_lock.held(place) as hold:
        with hold.on_lost(lambda failure: lost.set()):
            leave(place, host="elsewhere", term=2, token="other")
            assert lost.wait(10)
        wait_for(lambda: not any(thread.name == "lock" for thread in threading.enumerate()), what="the thread's end")
    assert on_disk(place)["token"] == "other"


def test_a_callback_that_is_forgotten_is_not_called(place: Destination, clock: FakeClock) -> None:
    calls: list[Stopped] = []
    with run_lock.held(place) as hold:
        with hold.on_lost(calls.append):
            pass
        leave(place, host="elsewhere", term=2)
        with pytest.raises(Stopped):
            hold.check()
    assert calls == []


def test_a_claim_alone_displaces_a_holder(place: Destination, clock: FakeClock) -> None:
    """The other has claimed the next term and not yet written the lock: what this one writes now is late."""
    with run_lock.held(place) as hold:
        other = dataclasses.replace(Holder.of_this_process(ELSEWHERE), term=hold.term + 1)
        filesystems.create_bytes(lock_file.claim_url(hold.url, other.term), lock_file.to_json(other).encode())
        with pytest.raises(Stopped, match="on elsewhere"):
            hold.check()


def test_a_lock_of_a_lower_term_is_written_over(place: Destination, clock: FakeClock) -> None:
    leave(place, term=3, released=True)
    with run_lock.held(place) as hold:
        leave(place, term=2, token="woke up late", host="elsewhere")
        hold.beat()
        assert on_disk(place)["token"] == hold.token
        path_of(place).unlink()
        hold.check()
        assert on_disk(place)["token"] == hold.token, "somebody deleted it"


def test_a_holder_whose_lock_and_claims_were_deleted_has_lost(place: Destination, clock: FakeClock) -> None:
    """The training folder of a run that ended: a run that wakes up later owns nothing there."""
    hold = take(place)
    for path in sorted(path_of(place).parent.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(Stopped):
        hold.check()
    assert not path_of(place).exists()


def test_a_store_that_refuses_a_beat_or_the_end_does_not_end_the_run(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    refused = threading.Event()

    def refuse(*_: object) -> None:
        refused.set()
        raise DestinationError("the store says no")

    with run_lock.held(place):
        monkeypatch.setattr(filesystems, "write_text", refuse)
        assert refused.wait(10)
        refused.clear()
        assert refused.wait(10), "it beats on"
        monkeypatch.setattr(filesystems, "delete", refuse)
    assert not any(thread.name == "lock" for thread in threading.enumerate())


def test_an_unreachable_store_is_asked_again_before_an_execution(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    hold, real = take(place), filesystems.read_bytes
    answers = [errno.EIO, errno.EIO]

    def read(url: str, **keywords: Any) -> bytes:
        if answers:
            raise OSError(answers.pop(), "Input/output error")
        return real(url, **keywords)

    monkeypatch.setattr(filesystems, "read_bytes", read)
    hold.check()
    assert clock.seconds == 3
    answers = [errno.EIO] * 99
    with pytest.raises(Stopped, match=r"cannot be known .*lock.json cannot be read .*Run the same command"):
        hold.check()
    assert hold.lost is None and len(answers) == 99 - hold_module.NUM_CHECKS


def test_a_displaced_run_reports_that_it_was_displaced_whatever_failed_first(place: Destination) -> None:
    """Files that are gone and facts that are others are the successor's doing."""
    with pytest.raises(Stopped, match="has taken over"), run_lock.held(place):
        successor = dataclasses.replace(Holder.of_this_process(ELSEWHERE), term=2)
        filesystems.create_bytes(
            lock_file.claim_url(run_lock.lock_url(place), 2), lock_file.to_json(successor).encode()
        )
        raise DestinationError("tracks/ changed while it was read")
    with (
        pytest.raises(DestinationError, match="tracks/ changed"),
        run_lock.held_at(f"{place.url}/other.json", place.url),
    ):
        raise DestinationError("tracks/ changed while it was read")


def test_a_run_of_this_process_whose_end_could_not_be_written(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes no mark of the end, and the next run of a notebook must not wait for its own process."""
    first = run_lock.acquire(run_lock.lock_url(place), place.url)

    def is_full(url: str, holder: Holder) -> None:
        raise DestinationError(f"{url} cannot be written: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lock_file, "write", is_full)
        first.release()
    second = run_lock.acquire(run_lock.lock_url(place), place.url)
    assert second.term == first.term + 1
    second.release()
