"""--rescore GROUP has those columns made again, all of them, and one that was interrupted goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stub_runs import StubRuns
from tonearm.cli.run_end import missing_lines
from tonearm.errors import DecodeError, DestinationError, FetchError, ScoreError, Stopped

ALL = ["a.mp3", "b.mp3", "c.mp3"]
AWAY = FetchError("the store did not answer", code="fetch_failed")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubRuns:
    return StubRuns(tmp_path, monkeypatch)


def terms(runs: StubRuns) -> dict[str, int]:
    return {name: row["term"] for name, row in runs.rows().items()}


def test_another_runtime_alone_is_a_reason_and_an_interrupted_run_goes_on(runs: StubRuns) -> None:
    """Its facts are those of the rows that are to be made again: their hash must not be."""
    runs.tag()
    before = runs.rows()
    with pytest.raises(DestinationError, match="runtime: torch there, openvino now"):
        runs.tag(runtime="openvino")
    runs.stop = 1, Stopped("by a signal")
    asked: dict[str, Any] = {"rescore": ["genre"], "runtime": "openvino"}
    with pytest.raises(DestinationError, match=r"--rescore genre --rescore tags"):
        runs.tag(**asked)
    asked["rescore"] = ["genre", "tags"]
    with pytest.raises(Stopped):
        runs.tag(**asked)
    assert len(runs.scored["genre", "tags"]) == 1
    runs.tag(**asked)
    assert len(runs.scored["genre", "tags"]) == 2, "what was done is not done twice"
    rows = runs.rows()
    assert all(rows[name]["genre_settings"] != before[name]["genre_settings"] for name in before)
    assert all(rows[name]["genre"] == before[name]["genre"] for name in before)
    runs.tag(**asked)
    assert runs.scored == {}
    runs.tag()
    assert runs.scored == {}


def test_the_runtime_of_a_run_that_was_killed_is_not_known(runs: StubRuns) -> None:
    """It notes its runtime at its end; nobody can say that the rows have been made with the one asked for."""
    runs.stop = 2, Stopped("killed")
    with pytest.raises(Stopped):
        runs.tag("genre")
    runs.tag("genre", rescore=["genre"], runtime="torch")
    assert runs.scored["genre",] == ALL
    runs.tag("genre", rescore=["genre"], runtime="torch")
    assert runs.scored == {}


def test_rescore_with_the_same_settings_scores_nothing_again(runs: StubRuns) -> None:
    runs.tag()
    runs.tag(rescore=["genre", "tags"])
    assert runs.scored == {}


def test_a_group_can_be_made_again_and_again(runs: StubRuns) -> None:
    """Back to settings that rows had once, and some still have."""
    runs.tag()
    runs.stop = 2, Stopped("by a signal")
    both = ["genre", "tags"]
    with pytest.raises(Stopped):
        runs.tag(rescore=both, max_windows=1)
    runs.tag(rescore=both)
    assert len(runs.scored["genre", "tags"]) == 3
    assert len({(row["genre_settings"], row["tag_settings"]) for row in runs.rows().values()}) == 1


def test_a_head_that_cannot_be_added_is_not_tried_by_every_run(
    runs: StubRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.tag("genre")
    runs.failures = {"a.mp3": DecodeError("it breaks off", code="corrupt"), "b.mp3": AWAY}
    runs.tag()
    assert runs.scored == {("tags",): ALL}
    runs.tag()
    assert runs.scored == {("tags",): ["b.mp3"]}, "what a store did not give is asked for again"
    runs.failures.pop("b.mp3")
    runs.tag()
    outcome = runs.tag()
    assert (runs.scored, outcome.counts) == ({}, None)
    assert (outcome.audit.missing_by_group, outcome.audit.failed_by_group) == ({"tags": 1}, {"tags": 1})
    assert missing_lines(outcome.audit) == [
        "tags could not be added to 1 row, which stays as it was; its error_message says why; `tonearm tag "
        "--retry-errors` tries 1 of them again"
    ]
    runs.failures = {}
    runs.tag(retry_errors=True)
    assert runs.scored == {("tags",): ["a.mp3"]}
    assert runs.rows()["a.mp3"]["error_code"] is None


def test_what_failed_for_one_head_before_is_made_again_for_another(runs: StubRuns) -> None:
    """Once: what fails then waits for --retry-errors."""
    runs.tag("genre")
    runs.failures = {"a.mp3": ScoreError("no number", code="score_failed")}
    runs.tag()
    runs.failures = {"b.mp3": ScoreError("no number", code="score_failed")}
    runs.stop = 0, Stopped("by a signal")
    with pytest.raises(Stopped):
        runs.tag("genre", rescore=["genre"], max_windows=1)
    runs.tag("genre", rescore=["genre"], max_windows=1)
    assert runs.scored == {("genre",): ALL}
    outcome = runs.tag("genre", max_windows=1)
    assert (runs.scored, outcome.audit.failed_by_group) == ({}, {"genre": 1})


@pytest.mark.parametrize("heads", [("tags",), ("genre", "tags")])
def test_a_row_of_0_1_0_that_was_not_made_again_does_not_say_so(runs: StubRuns, heads: tuple[str, ...]) -> None:
    """It says nothing of its settings, and gets its tags, or fails, while its genre is still to be made again."""
    runs.tag("genre")
    runs.forget_settings()
    runs.stop = 0, Stopped("by a signal")
    with pytest.raises(Stopped):
        runs.tag("genre", rescore=["genre"], max_windows=1)
    if heads == ("tags",):
        runs.tag("tags", max_windows=1)
        assert set(runs.scored) == {("tags",)}
    else:
        runs.failures = dict.fromkeys(runs.rows(), AWAY)
        runs.tag("genre", max_windows=1)
        runs.failures = {}
    runs.tag("genre", max_windows=1)
    assert runs.scored["genre",] == ALL
