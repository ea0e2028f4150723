"""Rows of tracks that have both groups, and rows of failures."""

from __future__ import annotations

import numpy as np

from tests.tables import make_row
from tonearm.runs.groups import Group

GENRE, TAGS = Group({"model": "g"}), Group({"model": "t"})
GROUPS = {"genre": GENRE, "tags": TAGS}
BOTH = ("genre", "tags")
NOTHING = ("duration_s", "coverage", "genre", "genre_score", "tags", "windows")


def ok(key: int, **changes: object) -> dict[str, object]:
    has = {"genre_settings": GENRE.hash, "tag_settings": TAGS.hash, "term": 1}
    return make_row(key, np.random.default_rng(key), **{"track_key": key, "uri": f"/m/{key}.mp3", **has, **changes})


def failed(key: int, code: str | None, **changes: object) -> dict[str, object]:
    return ok(key, **dict.fromkeys(NOTHING), status="error", error_code=code, error_message=code, **changes)
