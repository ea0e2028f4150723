"""What every source shares: errors that say whether to try again, and limits on size."""

from __future__ import annotations

import io
import time

import pytest

from tonearm.errors import FetchError, SourceError
from tonearm.sources.source import ReadLimits, Retry, append, check_size, failed, only_label
from tonearm.sources.track_ref import make_ref
from tonearm.storage.store_errors import Failure

REF = make_ref("s3://bucket/a.mp3")


def test_a_failure_that_may_pass_is_tried_again() -> None:
    error = failed(REF, Failure("unreachable", "HTTP 503", is_transient=True))
    assert isinstance(error, Retry) and error.failure.reason == "HTTP 503"


@pytest.mark.parametrize(
    ("kind", "code"), [("not_found", "not_found"), ("changed", "changed"), ("other", "fetch_failed")]
)
def test_a_failure_that_stays_has_its_code(kind: str, code: str) -> None:
    error = failed(REF, Failure(kind, "words"))  # type: ignore[arg-type]
    assert isinstance(error, FetchError) and error.code == code and "s3://bucket/a.mp3" in error.message


def test_an_object_is_refused_from_the_first_byte_over_the_limit() -> None:
    buffer = io.BytesIO()
    append(REF, buffer, bytes(6), 10)
    append(REF, buffer, bytes(4), 10)
    with pytest.raises(FetchError, match=r"has 11 bytes or more, over fetch\.max_bytes = 10") as caught:
        append(REF, buffer, bytes(1), 10)
    assert caught.value.code == "too_large" and buffer.tell() == 10
    check_size(REF, None, 10)


def test_labels_come_from_the_only_column_that_has_them() -> None:
    assert only_label(["genre"], "s3://b/t.csv", "column") == "genre"
    for names, got in (((), "none"), (("genre", "mood"), "genre, mood")):
        with pytest.raises(SourceError, match=f"got {got}, expected one column with the labels"):
            only_label(names, "s3://b/t.csv", "column")


def test_time_that_is_left_is_counted_to_the_deadline() -> None:
    assert 0 < ReadLimits(1, time.monotonic() + 5, 1.0).left_s <= 5
    assert ReadLimits(1, time.monotonic() - 1, 1.0).left_s < 0
