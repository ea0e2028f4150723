"""``tonearm tag FILE`` prints what the heads say of one file, and refuses flags that only a run has."""

from __future__ import annotations

from typing import Any

import pytest

from tonearm.cli.tag_files import NUM_STRETCHES, check_flags, lines, timeline
from tonearm.errors import UsageError
from tonearm.web.messages import Label, Tag, TrackResult, Window


def result(**changes: Any) -> TrackResult:
    """Return a result of a minute of music."""
    facts: dict[str, Any] = {"duration_s": 60.0, "coverage": 1.0, "sample_rate": 44100, "channels": 2, "codec": "mp3"}
    return TrackResult(**{**facts, "windows": [], "tonearm_version": "1", **changes})


def test_genre_and_tags_are_said_with_their_scores() -> None:
    genres = [Label(label=name, score=score) for name, score in (("jazz", 0.9), ("folk", 0.06), ("rock", 0.04))]
    tags = [Tag(label="Piano", score=0.8, max_score=0.9, max_start_s=0.0)]
    tags.append(Tag(label="Sneeze", score=0.01, max_score=0.01, max_start_s=0.0))
    said = result(artist="A", title="T", genre="jazz", genre_score=0.9, genre_scores=genres, tags=tags)
    assert lines(said) == [
        ("track", "A – T"),
        ("audio", "1:00, mp3 44.1 kHz stereo"),
        ("genre", "jazz 0.90   (folk 0.06, rock 0.04)"),
        ("tags", "Piano 0.80"),
    ]


def test_a_silent_file_gets_no_labels() -> None:
    said = lines(result(silent=True, genre="jazz", genre_score=0.9, coverage=0.5))
    assert said[0] == ("audio", "1:00, mp3 44.1 kHz stereo, 50% of it scored")
    assert len(said) == 2 and "nothing in it is louder" in said[1][1]


def test_a_long_timeline_is_cut_into_few_stretches() -> None:
    """Each has the genre that most of its windows have, and the tags that say most."""
    windows = [
        Window(
            start_s=10.0 * number,
            end_s=10.0 * number + 10,
            genre="jazz" if number < 12 else "rock",
            genre_score=0.9,
            tags=[Label(label="Piano", score=0.5), Label(label="Sneeze", score=0.01)],
        )
        for number in range(24)
    ]
    stretches = timeline(windows)
    assert len(stretches) == NUM_STRETCHES
    assert stretches[0] == (0.0, "jazz, Piano") and stretches[-1] == (210.0, "rock, Piano")


def test_flags_of_a_run_are_refused_without_out() -> None:
    check_flags({"max_windows": 3, "workers": None})
    with pytest.raises(UsageError, match="got --retry-errors without --out"):
        check_flags({"retry_errors": True})
