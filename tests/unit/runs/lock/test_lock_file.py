"""What a lock's file says of its holder, and files that are no lock."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.unit.runs.lock.locks import OLD, path_of
from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.lock.run_lock import Holder
from tonearm.storage import filesystems


def test_a_dead_process_is_recognized_on_its_own_machine_only() -> None:
    ours = Holder.of_this_process()
    assert not ours.is_dead()
    assert dataclasses.replace(ours, process_started=1.0).is_dead(), "another process has its number by now"
    gone = dataclasses.replace(ours, pid=2**22 + 1)
    assert gone.is_dead(), "no process has that number"
    for other in ({"host": "elsewhere"}, {"boot_id": "another"}, {"boot_id": ""}, {"pid_namespace": "pid:[1]"}):
        assert not dataclasses.replace(gone, **other).is_dead(), other
    assert not Holder.parse(json.dumps(OLD | {"host": ours.host, "pid": gone.pid}).encode()).is_dead()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", r"it begins with b'\{'"),
        (b"", "it is empty"),
        (b"\x00\xff" * 50, "it begins with"),
        (b"[" * 60_000, "it begins with"),
        (b'{"ID": "9db590f1", "Operation": "OperationTypeApply", "Who": "me@host"}', "it has no 'token'"),
        (json.dumps(OLD | {"pid": "7"}).encode(), "its 'pid' is '7'"),
        (json.dumps(OLD | {"host": "a\nb"}).encode(), "its 'host' is"),
        (json.dumps(OLD | {"term": -1}).encode(), "its 'term' is"),
        (json.dumps(OLD | {"term": 10**30}).encode(), "its 'term' is"),
        (b'"lock"', "it begins with"),
        (b" " * 10_000_000, "it has more than 65,536 bytes"),
    ],
)
def test_what_is_no_lock_is_left_alone(place: Destination, content: bytes, says: str) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_bytes(content)
    with pytest.raises(DestinationError, match=says) as caught, run_lock.held(place):
        raise AssertionError("it counts as free")
    assert "is no lock of tonearm" in caught.value.message and "delete this file" in caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 500
    assert path_of(place).read_bytes() == content
    assert not list(path_of(place).parent.glob("terms/*")), "nothing is claimed"


def test_a_large_lock_is_not_read_whole(place: Destination) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_bytes(b" " * 10_000_000)
    assert len(filesystems.read_bytes(str(path_of(place)), max_bytes=100)) == 100
    path_of(place).write_bytes(b"")
    assert filesystems.read_bytes(str(path_of(place)), max_bytes=100) == b""
