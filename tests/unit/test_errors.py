"""The errors: one tree, whose docstring is complete, that crosses processes and keeps the published exit statuses."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from tonearm import errors


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
