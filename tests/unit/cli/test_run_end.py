"""What a person is told at the end of a run: what was done, what failed, which labels were given, what to do next."""

from __future__ import annotations

import shlex
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tables import make_error, make_row, make_run, write_tracks
from tonearm.cli import run_end
from tonearm.report.figures import gather
from tonearm.runs.resume import Audit
from tonearm.runs.run_summary import FallbackFacts, ModelFacts


def outcome(num_ok: int, num_error: int = 0, *, before: int = 0, is_idle: bool = False, **codes: int) -> Any:
    audit = Audit(num_ok + num_error, num_ok, num_error, codes, 60.0 * num_ok, 60.0 * num_ok, 0, 0, 1)
    new_failed = max(0, num_error - before)
    counts = types.SimpleNamespace(audio_s=60.0 * num_ok, num_failed=new_failed, num_tracks=num_ok + num_error - before)
    return types.SimpleNamespace(
        audit=audit, counts=None if is_idle else counts, num_done_before=before, num_skipped={}, wall_s=30.0
    )


def test_failures_are_counted_as_failures_and_not_as_done() -> None:
    said = run_end.done_lines(outcome(24, 1, not_audio=1), "out")
    assert said == [
        "24 tracks tagged, 1 failed (24.0 min of audio) in 0:30, 48× real time",
        "failed: 1 not_audio",
        "audit: 25 rows for 25 tracks, none lost, none twice",
    ]


def test_of_many_kinds_of_failure_the_commonest_come_first() -> None:
    codes = {f"kind_{number}": number for number in range(1, 12)}
    (failed,) = [line for line in run_end.done_lines(outcome(5, 66, **codes), "out") if line.startswith("failed")]
    assert failed.startswith("failed: 11 kind_11, 10 kind_10") and failed.endswith("6 kind_6 and 5 more")


def test_a_single_failure_is_named_in_the_singular() -> None:
    assert run_end.done_lines(outcome(1), "out")[0].startswith("1 track tagged (60 s of audio) in 0:30")
    assert run_end.done_lines(outcome(1), "out")[1] == "audit: 1 row for 1 track, none lost, none twice"
    idle = run_end.done_lines(outcome(1, is_idle=True), "my out")
    assert idle == ["nothing to do: 1 track is in my out already", "1 track tagged (60 s of audio)"]


def test_a_run_that_had_nothing_to_do_still_says_what_is_there() -> None:
    assert run_end.done_lines(outcome(9, 3, is_idle=True, before=12, corrupt=3), "out") == [
        "nothing to do: all 12 tracks are in out already",
        "9 tracks tagged, 3 failed (9.0 min of audio)",
        "failed: 3 corrupt",
    ]


def library(folder: Path, num_rows: int = 40) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for number in range(num_rows):
        tags = [("Music", 0.99), ("Musical instrument", 0.9), ("Banjo", 0.8 if number % 2 else 0.2), ("Guitar", 0.7)]
        entries = [{"label": label, "score": score, "max_score": score, "max_start_s": 0.0} for label, score in tags]
        rows.append(make_row(number, random, tags=entries, genre=f"genre {number % 12:02d}"))
    write_tracks(folder, [*rows, make_error(99, random)])
    return folder


def test_labels_are_shown_with_the_most_telling_first(tmp_path: Path) -> None:
    labels = gather(str(library(tmp_path))).found()
    assert labels.num_genres == 12 and list(labels.tags) == ["Guitar", "Banjo", "Musical instrument", "Music"]
    genres, tags = run_end.found_lines(labels)
    assert genres.startswith("genres: 4 genre 00, 4 genre 01") and genres.endswith("3 genre 07 and 4 more")
    assert tags == "tags, those that say most first: 40 Guitar, 20 Banjo, 40 Musical instrument, 40 Music"


def test_without_any_tag_that_is_sure_the_highest_means_are_said(tmp_path: Path) -> None:
    entries = [{"label": name, "score": score, "max_score": score, "max_start_s": 0.0} for name, score in
               (("Music", 0.9), ("Flute", 0.25), ("Choir", 0.125))]  # fmt: skip
    write_tracks(tmp_path, [make_row(1, np.random.default_rng(0), tags=entries)])
    _, tags = run_end.found_lines(gather(str(tmp_path)).found())
    assert tags == "tags: none scores 0.5 or more; the highest means are Flute 0.25, Choir 0.12"


@pytest.mark.parametrize("out", ["demo-out", "my labels/it's", "s3://labels/records"])
def test_what_to_do_next_is_said_as_a_shell_takes_it(out: str) -> None:
    lines = run_end.next_lines(out, f"{out}/report.html")
    assert lines[0] == f"report: {out}/report.html"
    commands = [line.removeprefix("next:").strip() for line in lines[1:]]
    assert [shlex.split(command)[:3] for command in commands] == [
        ["tonearm", name, out] for name in ("export", "status", "report")
    ]


def test_how_many_windows_went_to_a_fallback_is_said_in_one_line() -> None:
    facts = FallbackFacts("large", "sha256:0123", 0.62, 8311, 997, "openvino", "fp32", "cpu")
    idle = FallbackFacts("large", "sha256:0123", 0.62)
    for fallback, said in (
        (facts, "tags: 12% of 8,311 windows, below 0.62, went to large"),
        (idle, "tags: windows below a score of 0.62 go to large"),
    ):
        model = ModelFacts("small", "sha256:fedc", "openvino", "fp32", device="cpu", fallback=fallback)
        run = make_run(genre_model=None, tag_model=model, speed=None)
        lines = run_end.how_lines(run, types.SimpleNamespace(spilled_bytes=0))  # type: ignore[arg-type]
        assert lines == ["tags ran on openvino fp32 on cpu", said]
