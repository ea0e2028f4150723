"""``_checkpoint/`` deleted by hand: what rows say of themselves is taken up again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.stub_runs import StubRuns
from tonearm.errors import DestinationError, Stopped

ALL = ["a.mp3", "b.mp3", "c.mp3"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubRuns:
    return StubRuns(tmp_path, monkeypatch)


def lose(runs: StubRuns) -> None:
    shutil.rmtree(runs.out / "_checkpoint")


def test_rows_that_name_the_settings_of_the_run_are_done(runs: StubRuns) -> None:
    runs.tag()
    before = runs.rows()
    lose(runs)
    runs.tag()
    assert runs.scored == {}
    (runs.music / "d.mp3").write_bytes(b"new")
    runs.tag()
    assert runs.scored == {("genre", "tags"): ["d.mp3"]}
    rows = runs.rows()
    assert {name: rows[name] for name in before} == before
    assert rows["d.mp3"]["genre_settings"] == before["a.mp3"]["genre_settings"]
    assert rows["d.mp3"]["term"] > before["a.mp3"]["term"], "the terms go on although the lock's claims are gone"


def test_each_head_is_taken_up_by_itself(runs: StubRuns) -> None:
    """A run of the tags alone writes facts without the genre, whose rows are as they were."""
    runs.tag("genre")
    lose(runs)
    runs.tag("tags")
    assert runs.scored == {("tags",): ALL}
    runs.tag()
    assert runs.scored == {}


def test_columns_that_were_made_again_are_done_too(runs: StubRuns) -> None:
    """Even where the run that began it had written no row, so that none has its term."""
    runs.tag("genre")
    runs.stop = 0, Stopped("by a signal")
    for _ in range(2):
        try:
            runs.tag("genre", rescore=["genre"], runtime="openvino")
        except Stopped:
            continue
    lose(runs)
    runs.tag("genre")
    assert runs.scored == {}


def test_what_rows_name_is_settled(runs: StubRuns) -> None:
    runs.tag()
    lose(runs)
    with pytest.raises(DestinationError, match="precision: fp32 there, bf16 now"):
        runs.tag(precision="bf16")
    runs.tag(precision="bf16", rescore=["genre", "tags"])
    assert runs.scored == {("genre", "tags"): ALL}


def test_rows_of_other_settings_are_made_again_and_do_not_double(runs: StubRuns) -> None:
    runs.tag()
    lose(runs)
    runs.tag(max_windows=1)
    assert runs.scored == {("genre", "tags"): ALL}
    assert sorted(runs.rows()) == ALL
