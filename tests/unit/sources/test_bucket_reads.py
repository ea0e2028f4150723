"""Objects of other stores are read whole, within their size and time."""

from __future__ import annotations

import time
from pathlib import Path

import fsspec
import pytest

from tonearm.errors import FetchError
from tonearm.sources.bucket_reads import read_other
from tonearm.sources.source import CHUNK_BYTES, ReadLimits
from tonearm.sources.track_ref import TrackRef, make_ref

SIZE = 16 * CHUNK_BYTES + 5


@pytest.fixture
def ref(tmp_path: Path) -> TrackRef:
    """Return an object that takes two reads."""
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/a.mp3", bytes(SIZE))
    return make_ref(f"memory://{tmp_path.name}/a.mp3")


def test_an_object_of_several_chunks_is_whole(ref: TrackRef) -> None:
    assert len(read_other(ref, ReadLimits(SIZE, time.monotonic() + 60, 1.0))) == SIZE


def test_an_object_over_the_limit_is_too_large(ref: TrackRef) -> None:
    with pytest.raises(FetchError) as caught:
        read_other(ref, ReadLimits(SIZE - 1, time.monotonic() + 60, 1.0))
    assert caught.value.code == "too_large"


def test_reading_ends_at_the_deadline(ref: TrackRef) -> None:
    with pytest.raises(TimeoutError):
        read_other(ref, ReadLimits(SIZE, time.monotonic() - 1, 1.0))
