"""Every error code has its status, its hint and its advice in one table, which server, report and page read."""

from __future__ import annotations

import pytest

from tonearm import error_codes, errors
from tonearm.report import text
from tonearm.web.error_responses import TRACK_HINTS


@pytest.mark.parametrize("code", error_codes.TRACK)
def test_the_server_the_report_and_the_page_know_every_track_code(code: str) -> None:
    entry = error_codes.TRACK[code]
    assert errors.TRACK_CODES[code] == entry.status
    assert text.ADVICE[code] == (entry.happened, entry.advice)
    assert all(text.ADVICE[code]), "the report says what happened and what to do"
    assert TRACK_HINTS.get(code) == entry.hint
    assert (entry.hint is not None) == (entry.page is not None) == is_of_decoding(code)


def is_of_decoding(code: str) -> bool:
    """Return whether an upload can fail so: the docstring's tree names the code as a ``DecodeError``'s."""
    tree = errors.__doc__ or ""
    return code in tree[tree.index("DecodeError") : tree.index("ScoreError")]


@pytest.mark.parametrize("code", error_codes.REQUEST)
def test_every_request_code_says_what_the_client_can_do(code: str) -> None:
    assert errors.REQUEST_CODES[code] == (error_codes.REQUEST[code].status, error_codes.REQUEST[code].hint)
    assert error_codes.REQUEST[code].hint
