"""What identifies a track: a key that changes with the object, and times that may be missing."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from tests.source_files import listed, make
from tonearm.sources.listing import track_key
from tonearm.sources.track_ref import from_nanoseconds, from_seconds, to_utc


def test_times_that_no_date_stands_for_are_not_known() -> None:
    assert from_nanoseconds(10**30) is from_nanoseconds(-(10**30)) is from_seconds(float("inf")) is None
    assert from_seconds(float("nan")) is from_seconds(1e30) is None
    assert to_utc(datetime.datetime.fromisoformat("9999-12-31T23:59:59-01:00")) is None
    assert to_utc(datetime.datetime.fromisoformat("0001-01-01T00:00:00+01:00")) is None


def test_key_changes_with_the_object_and_with_nothing_else(tmp_path: Path) -> None:
    path = make(tmp_path, "a.mp3") / "a.mp3"
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    (first,) = listed(path)
    assert listed(tmp_path) == [first]
    assert 0 < first.track_key < 2**63
    os.utime(path, ns=(0, 1_700_000_000_123_457_789))  # one microsecond later
    assert listed(path)[0].track_key != first.track_key
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert listed(path)[0].track_key != first.track_key
    assert track_key("s3://b/k", 1, "x", None) != track_key("s3://b/k", 1, "y", None)
