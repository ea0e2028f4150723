"""``tonearm prune``: rows of tracks that are gone are removed once a person has said so, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from tests.tables import make_row, write_tracks
from tonearm.cli.results.prune import prune
from tonearm.errors import DestinationError, SourceError, UsageError
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import finished_rows, track_rows
from tonearm.runs.status import read_status
from tonearm.sources.listing import list_tracks


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two sources of two tracks each, all tagged; one track of the first is no longer listed."""
    for name in ("a", "b"):
        source = tmp_path / f"{name}.csv"
        source.write_text("uri\n" + "".join(f"s3://records/{name}{number}.mp3\n" for number in range(2)))
    folder = tmp_path / "out"
    sources = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    rows = [
        make_row(number, np.random.default_rng(number), track_key=ref.track_key, uri=ref.uri, term=1)
        for number, ref in enumerate(list_tracks(sources))
    ]
    write_tracks(folder, rows)
    manifest.write_manifest(sources, str(folder / "manifest"))
    (tmp_path / "a.csv").write_text("uri\ns3://records/a0.mp3\n")
    manifest.write_manifest(sources, str(folder / "manifest"))
    return folder


def uris(out: Path) -> set[str]:
    return {uri for _, part in finished_rows.scan_files(str(out), ["uri"]) for uri in part["uri"].to_pylist()}


def test_rows_of_what_is_gone_are_removed_and_the_sources_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(uris(out)) == 4
    assert prune(str(out), is_sure=True) == 0
    said = capsys.readouterr().out
    assert f"{out.parent}/a.csv: 1 track\n" in said
    assert f"{out.parent}/b.csv: 2 tracks" in said
    assert said.endswith("1 row removed\n")
    assert uris(out) == {"s3://records/a0.mp3", "s3://records/b0.mp3", "s3://records/b1.mp3"}
    assert prune(str(out), is_sure=True) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_what_is_listed_must_be_known(out: Path) -> None:
    """With a damaged marker, and with the one that a run of one source would have put in its place, 3 rows would go."""
    (out / "manifest" / manifest.MARKER).write_text("garbage")
    for read in (
        lambda: prune(str(out), is_sure=True),
        lambda: read_status(str(out)),
        lambda: track_rows.listed_rows(str(out)),
        lambda: manifest.write_manifest([str(out.parent / "a.csv")], str(out / "manifest")),
    ):
        with pytest.raises(DestinationError, match=r"_manifest\.json is not what tonearm writes.* nothing is lost"):
            read()
    assert len(uris(out)) == 4


def test_a_source_is_forgotten_with_its_tracks(out: Path) -> None:
    with pytest.raises(SourceError, match="is no source of"):
        prune(str(out), [str(out.parent / "c.csv")], is_sure=True)
    assert prune(str(out), [str(out.parent / "b.csv")], is_sure=True) == 0
    assert uris(out) == {"s3://records/a0.mp3"}
    assert [row["uri"] for batch in track_rows.scan(str(out), ["uri"]) for row in batch.to_pylist()] == [
        "s3://records/a0.mp3"
    ]


@pytest.mark.parametrize("answer", [False, typer.Abort()])
def test_nothing_is_removed_without_confirmation(out: Path, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def confirm(question: str, *, err: bool) -> bool:
        assert question == "remove 1 row that nothing shows?"
        if isinstance(answer, BaseException):
            raise answer
        return bool(answer)

    monkeypatch.setattr(typer, "confirm", confirm)
    with pytest.raises(UsageError, match=r"nothing was removed|give --yes"):
        prune(str(out))
    assert len(uris(out)) == 4
    monkeypatch.setattr(typer, "confirm", lambda question, err: True)
    assert prune(str(out)) == 0
    assert len(uris(out)) == 3
