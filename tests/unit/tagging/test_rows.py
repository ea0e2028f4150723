"""A row that gets a further group of columns is the row that a run with all of them would have written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tonearm import demo
from tonearm.audio.decode import AudioInfo, DecodedTrack, PcmStream
from tonearm.errors import DecodeError, FetchError, TrackError
from tonearm.heads import PUBLISHED
from tonearm.models.window_scores import WindowScores
from tonearm.runs.rows import schema
from tonearm.settings import ModelSettings
from tonearm.sources.track_ref import make_ref
from tonearm.tagging import Heads, RunFacts, TagPlan, TrackResult, plan_heads, to_table

MODELS = ModelSettings(**demo.models())
HASHES = {"read": "r" * 16, "genre": "g" * 16, "tags": "t" * 16}
SECONDS = 70.0
INFO = AudioInfo(duration_s=SECONDS, sample_rate=16000, channels=1, codec="flac", title="T", artist="A", album="B")


@pytest.fixture(scope="module")
def plan() -> TagPlan:
    return TagPlan(plan_heads(MODELS, max_windows=None, max_scored_s=14400.0), MODELS, 14400.0)


def facts(
    *heads: str, term: int = 7, run: str = "20260101T000000-x", adopts: Sequence[str] = ("read", "genre", "tags")
) -> RunFacts:
    names = {"genre": "genre@1", "tags": "tags@1"}
    models = {head: names[head] for head in heads}
    return RunFacts(run, "0.2.0", models, term=term, settings=HASHES, adopts=frozenset(adopts))


def result(plan: TagPlan, *heads: str, seconds: float = SECONDS) -> TrackResult:
    """What these heads say of one and the same track."""
    info = dataclasses.replace(INFO, duration_s=seconds)
    num_samples = int(seconds * 16000)
    spans = ((0, num_samples),)
    stream = PcmStream(16000, num_samples, np.zeros(num_samples, np.int16), 1.0, spans)
    track = DecodedTrack(info=info, streams=(stream,), decoded_share=1.0)
    scores = {}
    for head in heads:
        each, random = plan.heads[head], np.random.default_rng(len(head))
        shape = (len(each.windows.starts(num_samples)), len(each.checkpoint.labels))
        embedding = random.standard_normal((shape[0], 8), np.float32)
        scores[head] = WindowScores(random.standard_normal(shape, np.float32), embedding)
    return Heads(plan.only(heads).heads, MODELS).pool(track, scores)


def row(outcome: TrackResult | TrackError, made: RunFacts, *heads: str, old: Any = None) -> dict[str, Any]:
    ref = make_ref("/m/a.flac", 100)
    carried = None
    if old is not None:
        kind = pa.struct([*schema.TRACKS, *[pa.field(name, pa.string()) for name in old if name == "mine"]])
        carried = pa.chunked_array([pa.array([old], kind)])
    (found,) = to_table([ref], [outcome], made, [PUBLISHED[head] for head in heads], carried).to_pylist()
    return dict(found)


@pytest.mark.parametrize("seconds", [3.0, 10.24, 31.0, SECONDS, 200.5])
@pytest.mark.parametrize("first", ["genre", "tags"])
def test_one_head_after_the_other_is_both_at_once(plan: TagPlan, first: str, seconds: float) -> None:
    second = "tags" if first == "genre" else "genre"
    both = row(result(plan, "genre", "tags", seconds=seconds), facts("genre", "tags"), "genre", "tags")
    half = row(result(plan, first, seconds=seconds), facts(first, term=6, run="earlier"), first)
    assert half[f"{first.removesuffix('s')}_settings"] == HASHES[first]
    assert half[f"{second.removesuffix('s')}_settings"] is None
    assert half["silent"] is True, "its samples are zeros"
    assert row(result(plan, second, seconds=seconds), facts(second), second, old=half) == both


def test_columns_of_others_and_other_groups_are_kept(plan: TagPlan) -> None:
    old = row(result(plan, "genre"), facts("genre", term=6), "genre") | {"mine": "x", "title": "as it was read"}
    new = row(result(plan, "tags"), facts("tags"), "tags", old=old)
    assert (new["mine"], new["title"], new["term"]) == ("x", "as it was read", 7)
    for name in ("genre", "genre_score", "genre_scores", "genre_embedding", "genre_model", "genre_settings"):
        assert new[name] == old[name]
    assert list(new)[-1] == "mine", "after tonearm's own"


def test_a_row_that_does_not_say_what_it_has_says_so_from_then_on(plan: TagPlan) -> None:
    old = row(result(plan, "genre"), facts("genre"), "genre") | dict.fromkeys(
        ("read_settings", "genre_settings", "term")
    )
    new = row(result(plan, "tags"), facts("tags"), "tags", old=old)
    assert [new[name] for name in ("read_settings", "genre_settings", "tag_settings")] == list(HASHES.values())
    new = row(result(plan, "tags"), facts("tags", adopts=()), "tags", old=old)
    assert new["genre_settings"] is None, "it is not what has been made again since"


def test_a_track_that_cannot_be_added_to_stays_as_it_was(plan: TagPlan) -> None:
    old = row(result(plan, "genre"), facts("genre", term=6), "genre") | {"mine": "x"}
    new = row(FetchError("the store is away", code="fetch_failed"), facts("tags"), "tags", old=old)
    assert (new["status"], new["error_code"], new["error_message"]) == ("ok", "fetch_failed", "the store is away")
    assert new["tag_settings"] is None, "so the next run tries again"
    changed = {"error_code", "error_message", "run_id", "term", "tonearm_version"}
    assert {name for name in old if new[name] != old[name]} <= changed
    later = row(result(plan, "tags"), facts("tags", term=8), "tags", old=new)
    assert (later["error_code"], later["error_message"], later["tag_settings"]) == (None, None, HASHES["tags"])


def test_a_failed_track_is_made_whole(plan: TagPlan) -> None:
    old = row(FetchError("away", code="fetch_failed"), facts("genre", "tags", term=6), "genre", "tags") | {"mine": "x"}
    assert (old["status"], old["genre_settings"]) == ("error", HASHES["genre"])
    new = row(result(plan, "genre", "tags"), facts("genre", "tags"), "genre", "tags", old=old)
    fresh = row(result(plan, "genre", "tags"), facts("genre", "tags"), "genre", "tags")
    assert new == fresh | {"mine": "x"}
    still = row(DecodeError("no", code="corrupt"), facts("genre", "tags"), "genre", "tags", old=old)
    assert (still["status"], still["error_code"], still["mine"]) == ("error", "corrupt", "x")


def test_the_least_scored_head_decides_the_coverage(plan: TagPlan) -> None:
    old = row(result(plan, "genre"), facts("genre"), "genre") | {"coverage": 0.25}
    assert row(result(plan, "tags"), facts("tags"), "tags", old=old)["coverage"] == 0.25
