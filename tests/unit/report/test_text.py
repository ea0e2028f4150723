"""Numbers as people say them, and advice for every error."""

from __future__ import annotations

import pytest

from tonearm.errors import TRACK_CODES
from tonearm.report import text


def test_every_error_code_has_its_advice() -> None:
    assert text.ADVICE.keys() == TRACK_CODES.keys()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (text.share(1, 10_000), "< 0.1 %"),
        (text.share(9_999, 10_000), "> 99.9 %"),
        (text.share(0, 0), "0 %"),
        (text.share(9.97, 100), "10 %"),
        (text.share(1, 1), "100 %"),
        (text.clock(59.6), "1:00"),
        (text.clock(3_725), "1:02:05"),
        (text.clock(None), "–"),
        (text.amount(5_399), "90.0 min"),
        (text.amount(4_000_000), "1,111 h"),
        (text.size(999), "999 B"),
        (text.size(7.4e9), "7.4 GB"),
        (text.khz(44_100), "44.1 kHz"),
    ],
)
def test_numbers_are_said_as_people_say_them(said: str, expected: str) -> None:
    assert said == expected
