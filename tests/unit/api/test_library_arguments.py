"""``open``, ``tracks``, ``export`` and ``tag``: arguments of another form are refused in one line, or read as meant."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tonearm
from tests.tables import make_row, write_tracks
from tonearm.api import tagging
from tonearm.api.flags import distill_settings, serve_settings, source_list, tag_settings, train_settings
from tonearm.errors import DestinationError, SettingsError, SourceError, UsageError
from tonearm.runs.manifest import manifest
from tonearm.sources.listing import list_tracks


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A library of three tracks."""
    table, folder = tmp_path / "a.csv", tmp_path / "out"
    table.write_text("uri\n" + "".join(f"s3://records/{number}.mp3\n" for number in range(3)))
    refs = list_tracks([str(table)])
    rows = [make_row(7, np.random.default_rng(0), track_key=ref.track_key, uri=ref.uri, genre="jazz") for ref in refs]
    write_tracks(folder, rows)
    manifest.write_manifest([str(table)], str(folder / "manifest"))
    return folder


@pytest.mark.parametrize("columns", [5, [1], [None], "uri"])
def test_columns_that_are_no_names_are_refused(out: Path, columns: Any) -> None:
    """Three of them ended inside difflib."""
    with pytest.raises(UsageError, match="got column"):
        tonearm.open(out).tracks(columns=columns)


def test_columns_may_come_from_what_is_read_once(out: Path) -> None:
    """The check read the iterator to its end, and the table then had no column at all."""
    assert tonearm.open(out).tracks(columns=iter(["genre"])).arrow().to_pydict() == {"genre": ["jazz"] * 3}


@pytest.mark.parametrize("batch_rows", [0, -1, 1.5, "2"])
def test_batches_have_at_least_one_row(out: Path, batch_rows: Any) -> None:
    """Zero blamed a healthy file of tracks/, and advised to move it away."""
    with pytest.raises(UsageError, match=r"got batch_rows=.*from 1"):
        tonearm.open(out).tracks().batches(batch_rows)


@pytest.mark.parametrize("where", [5, b"genre = 'jazz'", ["genre"]])
def test_where_must_be_a_string(out: Path, where: Any) -> None:
    """They were AttributeErrors and TypeErrors from inside."""
    with pytest.raises(UsageError, match="got where="):
        tonearm.open(out).tracks(where=where)


@pytest.mark.parametrize("place", [None, 5, b"out"])
def test_a_place_is_a_path_or_a_url(out: Path, place: Any) -> None:
    """As a destination, as an output of an export, and as the destination of a run."""
    for call in (tonearm.open, tonearm.open(out).export, lambda place: tonearm.tag("music", out=place)):
        with pytest.raises(UsageError, match=rf"of the type {type(place).__name__}, expected a path or a URL"):
            call(place)


def test_a_name_with_nul_is_no_destination() -> None:
    """The file system's own error for it is a bare ValueError."""
    with pytest.raises(DestinationError, match="NUL"):
        tonearm.open("a\0b")


def test_a_file_is_no_library_and_nothing_was_to_be_written(out: Path) -> None:
    """The message said that it cannot be written, to somebody who wanted to read."""
    (file,) = glob.glob(f"{out}/tracks/*.parquet")
    with pytest.raises(DestinationError, match="cannot be used: a file is where a folder should be"):
        tonearm.open(file)


def test_a_damaged_manifest_is_not_a_missing_run(out: Path) -> None:
    """Rows are there; the status said that the folder holds no run."""
    for part in glob.glob(f"{out}/manifest/*.parquet"):
        Path(part).write_text("x")
    for call in (tonearm.open(out).status, tonearm.open(out).compact, tonearm.open(out).listings):
        with pytest.raises(SourceError, match="is damaged"):
            call()


@pytest.mark.parametrize("score", ["high", True, 2, float("nan")])
def test_a_lowest_score_is_a_number(out: Path, tmp_path: Path, score: Any) -> None:
    """A text could not be compared with a number."""
    with pytest.raises(UsageError, match="minimum score"):
        tonearm.open(out).export(tmp_path / "lists", format="m3u", min_score=score)


@pytest.mark.parametrize("sources", [None, 5, b"music", [None], ["music", 5]])
def test_sources_of_another_form_are_refused(sources: Any) -> None:
    """Bytes were read as a list of numbers."""
    with pytest.raises(UsageError, match="expected a path or a URL"):
        source_list(sources)


def test_no_sources_are_refused() -> None:
    """The message named nothing: "no audio in : it is empty"."""
    with pytest.raises(UsageError, match="got no sources"):
        source_list([])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda value: tonearm.tag("music", out="out", rescore=value), "rescore"),
        (lambda value: train_settings({"tracker": value}), "tracker"),
        (lambda value: train_settings({"set": value}), "set"),
        (lambda value: distill_settings({"set": {value: 1}}), "set"),
    ],
)
def test_what_is_neither_a_text_nor_several_is_refused(call: Callable[[Any], object], name: str) -> None:
    """They were TypeErrors and AttributeErrors from inside, which named no argument."""
    for value in (5, (5,)):
        with pytest.raises(UsageError, match=rf"^got {name}=.*5.*, expected "):
            call(value)


@pytest.mark.parametrize("share", [0, 7, "high", True, float("nan")])
def test_a_wanted_precision_is_a_share_before_any_work(share: Any) -> None:
    """The command refuses it; from Python all clips were scored first."""
    with pytest.raises(UsageError, match=r"^got wanted_precision=.*, expected a share from 0\.01 to 1"):
        tonearm.evaluate("no/such/model", "music", calibrate=True, wanted_precision=share)


def test_a_string_is_not_taken_for_a_list_of_letters(out: Path) -> None:
    """``tracker="none"`` asked for the trackers n, o, n and e."""
    assert train_settings({"tracker": "none"}).trackers == ()
    assert train_settings({"set": "epochs=3"}).epochs == 3
    with pytest.raises(SourceError, match="music is no source"):
        tonearm.open(out).prune("music", yes=True)


def test_the_command_of_a_run_names_its_heads() -> None:
    """The summary of a run that was started from Python says which command does the same."""
    command = tagging._command(["music"], "out", {"heads": {"mood": Path("m"), "level": ""}}, False, ["genre"])
    assert command[5:] == ["--rescore", "genre", "--head", "mood=m", "--head", "level"]
    command = tagging._command(["music"], "out", {"fallback": {"tags": Path("large"), "mood": "m:0.4"}}, False, [])
    assert command[5:] == ["--fallback", "tags=large", "--fallback", "mood=m:0.4"]


@pytest.mark.parametrize("verb", [tag_settings, serve_settings, train_settings, distill_settings])
def test_a_settings_file_is_a_path(verb: Callable[[dict[str, Any]], object]) -> None:
    """``config=5`` ended in a bare TypeError of ``os.fspath``."""
    with pytest.raises(SettingsError, match=r"^got config=5, expected the path of a TOML file$"):
        verb({"config": 5})


@pytest.mark.parametrize(
    "call",
    [
        lambda: tonearm.train(None, out="out"),  # type: ignore[arg-type]
        lambda: tonearm.train("music", out=5),  # type: ignore[arg-type]
        lambda: tonearm.evaluate("model", None),  # type: ignore[arg-type]
        lambda: tonearm.evaluate(None, "music"),  # type: ignore[arg-type]
        lambda: tonearm.plan("music", out=5),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_place_is_refused_by_every_verb(call: Callable[[], object]) -> None:
    """A place that was None ended in a bare TypeError of ``os.fspath``."""
    with pytest.raises(UsageError, match="expected a path or a URL"):
        call()
