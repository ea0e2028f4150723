from __future__ import annotations

import inspect
import pickle
import re

import pytest

from tonearm import error_codes, errors
from tonearm.report import text
from tonearm.web import error_words
from tonearm.web.error_responses import TRACK_HINTS


def kinds() -> list[type[errors.TonearmError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.TonearmError)]


@pytest.mark.parametrize("kind", kinds())
def test_the_tree_in_the_docstring_names_every_error(kind: type[errors.TonearmError]) -> None:
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


def test_the_docstring_names_every_track_code() -> None:
    for code in errors.TRACK_CODES:
        assert code in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", kinds())
def test_errors_cross_process_borders(kind: type[errors.TonearmError]) -> None:
    code = "corrupt" if issubclass(kind, errors.TrackError) else "special"
    copy = pickle.loads(pickle.dumps(kind("got this; expected that", code=code)))
    assert (type(copy), copy.message, copy.code, copy.exit_status) == (
        kind,
        "got this; expected that",
        code,
        kind.exit_status,
    )


def test_a_track_error_takes_only_known_codes() -> None:
    with pytest.raises(ValueError, match="got track error code 'bad'"):
        errors.DecodeError("x", code="bad")


def test_exit_statuses_are_the_published_ones() -> None:
    assert errors.UsageError.exit_status == errors.SourceError.exit_status == 2
    assert errors.TooManyFailures.exit_status == 3
    assert errors.Stopped.exit_status == 4


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


def test_the_page_has_its_words_from_the_table() -> None:
    assert error_words.FILE.read_text() == error_words.page_module(), "run python -m tonearm.web.error_words"
    assert 'import { WORDS } from "./error_words.js";' in (error_words.FILE.parent / "api.js").read_text()
