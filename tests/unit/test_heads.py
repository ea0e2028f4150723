"""Heads besides genre and tags: their names, flags, tables and columns."""

from __future__ import annotations

from typing import Any

import pytest

from tonearm import heads
from tonearm.errors import SettingsError
from tonearm.heads import ACTIVATIONS, PUBLISHED, head_of
from tonearm.runs.rows import schema
from tonearm.settings import ModelSettings, build, merge


def test_names_of_columns_are_reserved() -> None:
    assert {*schema.TRACKS.names} <= heads.RESERVED
    for head in PUBLISHED.values():
        assert {*head.columns, head.settings} <= {*schema.TRACKS.names}


@pytest.mark.parametrize(
    "name", ["Mood", "1mood", "mo-od", "", "m" * 41, "tag", "key", "run", "genre", "tempo_bpm", "read"]
)
def test_names_that_no_head_can_have_are_one_line(name: str) -> None:
    with pytest.raises(SettingsError, match="got a head called") as refusal:
        build(ModelSettings, {"heads": {name: "folder"}})
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("mood", "expected NAME=MODEL"),
        ("mood=", "expected NAME=MODEL"),
        ("=folder", "expected NAME=MODEL"),
    ],
)
def test_flags_that_name_no_model_are_one_line(flag: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        heads.read_flags([flag])
    with pytest.raises(SettingsError, match="twice"):
        heads.read_flags(["mood=a", "mood=b"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mood": "folder:mutli"}, "'mutli' behind the colon, expected single, multi or embedding"),
        ({"mood": ":multi"}, "got no model"),
        ({"mood": 3}, "expected a model or a table"),
        ({"mood": {"window_s": 3.0}}, "the head mood has no model"),
        ({"mood": {"model": "m", "activation": "softmax"}}, "activation: got 'softmax'"),
        ({"mood": "a", "mood_score": "b"}, "mood and mood_score, which would share the column mood_score"),
        (["mood"], "expected a table of heads"),
    ],
)
def test_tables_that_are_no_heads_are_one_line(values: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        build(ModelSettings, {"heads": values})


def test_a_flag_replaces_a_table_of_the_file() -> None:
    file = {"heads": {"mood": {"model": "old", "window_s": 3.0}, "era": "eras", "key_of": "keys:multi"}}
    flags = {"heads": heads.read_flags(["mood=s3://models/mood:single", "era=none"])}
    found = build(ModelSettings, merge(file, flags)).heads
    assert found == {
        "mood": heads.HeadSettings("s3://models/mood", "single"),
        "key_of": heads.HeadSettings("keys", "multi"),
    }


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_head_is_known_by_its_columns(activation: heads.Activation) -> None:
    mood = head_of("mood", activation)
    names = schema.tracks_of([mood]).names
    assert names[: len(schema.TRACKS.names)] == schema.TRACKS.names, "the others come first, as they were"
    assert heads.heads_among(names) == (mood,)
    assert heads.heads_among([name for name in names if name != mood.model]) == ()
    assert heads.heads_among(schema.TRACKS.names) == ()
