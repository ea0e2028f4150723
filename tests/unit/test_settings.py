"""Settings are values with limits: a wrong one is named with its place, and nothing changes one once it is made."""

from __future__ import annotations

import pytest

from tonearm.errors import SettingsError
from tonearm.settings import TagSettings, build


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TagSettings().workers = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"models": {"precision": "fp64"}}, "got 'fp64'"),
        ({"workers": "many"}, "workers: got 'many'"),
        ({"models": 3}, "expected a table"),
        ({"fetch": {"timeout_s": "soon"}}, r"\[fetch\]: timeout_s"),
        ({"decode": {"max_scored_s": float("inf")}}, "max_scored_s: got inf"),
        ({"fetch": {"timeout_s": float("nan")}}, "timeout_s: got nan"),
        ({"fetch": {"backoff_s": float("inf")}}, "backoff_s: got inf; expected a finite number"),
        ({"fetch": {"backoff_s": -1.0}}, "backoff_s: got -1.0"),
        ({"limit": True}, "limit: got True"),
        ({"workers": True}, "workers: got True"),
        ({"models": {"calibrated": 1}}, "calibrated: got 1"),
        ({"models": {"genre_model": 3}}, "genre_model: got 3"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(TagSettings, values)
