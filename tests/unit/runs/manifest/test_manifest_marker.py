"""The marker says what is listed: whole or refused, in the newest term, and without credentials."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.runs.manifest.library import Library
from tonearm.errors import DestinationError, Stopped
from tonearm.runs.manifest import manifest
from tonearm.sources import track_ref
from tonearm.sources.listing import source_name
from tonearm.storage import filesystems

pytestmark = pytest.mark.usefixtures("small_parts")

READERS: list[Callable[[str], object]] = [
    manifest.read_manifest,
    manifest.read_keys,
    manifest.listings,
    lambda folder: next(manifest.read_tracks(folder)),
    lambda folder: manifest.prune(folder, ["/m"]),
]


def test_credentials_are_never_in_the_marker(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tonearm.sources.listing.list_with", lambda kind, source, skipped: iter([track_ref.make_ref("s3://b/1")])
    )
    sources = [
        "https://me:s3cret@host/tracks.csv?sig=s3cret&id=s3cret",
        "https://host/tracks.csv?X-Amz-Credential=s3cret#s3cret",
        "s3://me:s3cret@bucket/music/",
    ]
    manifest.write_manifest(sources, library.out)
    text = (library.root / "out" / manifest.MARKER).read_text()
    assert "s3cret" not in text
    assert [listing.source for listing in manifest.listings(library.out)] == list(map(source_name, sources))


def test_a_newer_format_is_left_as_it_is(library: Library) -> None:
    library.make("a/1.mp3")
    library.tag("a")
    marker = library.root / "out" / manifest.MARKER
    values = json.loads(marker.read_text()) | {"format": 3}
    marker.write_text(json.dumps(values))
    before = {path.name: path.read_bytes() for path in marker.parent.iterdir()}
    library.make("b/1.mp3")
    for act in (*READERS, lambda folder: library.tag("b")):
        with pytest.raises(DestinationError, match=r"is of format 3, which a newer tonearm .* up to format 2: use the"):
            act(library.out)
    assert {path.name: path.read_bytes() for path in marker.parent.iterdir()} == before


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        "{}",
        '{"format": 2}',
        '{"format": 2, "digest": "", "listings": [7]}',
        '{"num_tracks": 1, "num_bytes": 1, "skipped": {}, "parts": ["../../secret.parquet"], "digest": ""}',
        '{"num_tracks": 1, "num_bytes": 1, "skipped": {}, "parts": [".."], "digest": ""}',
        '{"num_tracks": "1", "num_bytes": 1, "skipped": {}, "parts": [], "digest": ""}',
        "\x00\xff" * 100,
        "[" * 100_000,
    ],
)
def test_garbage_is_one_line_and_no_listing_is_lost_to_it(library: Library, text: str) -> None:
    """Taken for no marker at all, it would put every source out of sight but the next one that is tagged."""
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a", "b")
    marker = library.root / "out" / manifest.MARKER
    whole = marker.read_bytes()
    marker.write_text(text, encoding="latin-1")
    before = {path.name: path.read_bytes() for path in marker.parent.iterdir()}
    line = r"_manifest\.json is not what tonearm writes, .* Put that file back, or delete it and run .* every source"
    for act in (*READERS, lambda folder: library.tag("a")):
        with pytest.raises(DestinationError, match=line) as refusal:
            act(library.out)
        assert "\n" not in refusal.value.message
    assert {path.name: path.read_bytes() for path in marker.parent.iterdir()} == before
    marker.write_bytes(whole)
    assert library.names() == {"a/1.mp3", "b/2.mp3"}
    marker.unlink()
    library.tag("a")
    assert library.names() == {"a/1.mp3"}, "as was said"


@pytest.mark.parametrize("name", [manifest.MARKER, "_manifest-000000000002.json"])
def test_of_two_markers_that_say_the_same_one_is_enough(library: Library, name: str) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a", term=1)
    library.tag("b", term=2)
    (library.root / "out" / name).write_text("garbage")
    assert len(manifest.read_keys(library.out)) == 2
    library.tag("b", term=3)
    assert library.names() == {"a/1.mp3", "b/2.mp3"}


def test_an_older_marker_does_not_stand_in_for_a_damaged_one(library: Library) -> None:
    """It lacks what was listed since; who has no copy of the damaged one may delete it and tag that again."""
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a", term=1)
    marker = library.root / "out" / manifest.MARKER
    older, parts = marker.read_bytes(), {path: path.read_bytes() for path in marker.parent.glob("*.parquet")}
    library.tag("b", term=2)
    marker.write_bytes(older)
    newer = marker.with_name("_manifest-000000000002.json")
    newer.write_text("garbage")
    for path, data in parts.items():
        path.write_bytes(data)
    for act in (*READERS, lambda folder: library.tag("a", term=3)):
        with pytest.raises(DestinationError, match=r"_manifest-000000000002\.json is not what tonearm writes"):
            act(library.out)
    newer.unlink()
    library.tag("b", term=3)
    assert library.names() == {"a/1.mp3", "b/2.mp3"}


def test_an_unreadable_marker_is_not_taken_for_a_missing_one(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a")

    def fail(url: str) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(filesystems, "read_bytes", fail)
        for act in (*READERS, lambda folder: library.tag("b")):
            with pytest.raises(DestinationError, match="cannot be read"):
                act(library.out)
    assert library.names() == {"a/1.mp3"}


def test_nothing_is_deleted_before_the_marker_is_there(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a")

    def fail(url: str, text: str) -> None:
        raise DestinationError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(filesystems, "write_text", fail)
        with pytest.raises(DestinationError, match="no space"):
            library.tag("a", "b")
    assert len(manifest.read_keys(library.out)) == 1


def test_a_marker_that_a_displaced_run_had_under_way_hides_nothing_when_it_lands(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is suspended between its last look at the lock and its write, or a store that is slow."""
    library.make("a/1.mp3")
    late: list[tuple[str, str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(filesystems, "write_text", lambda url, text: late.append((url, text)))
        library.tag("a", term=1)
    library.make("a/2.mp3")
    library.tag("a", term=2)
    for url, text in late:
        filesystems.write_text(url, text)
    assert {Path(uri).name for uri in (ref.uri for ref in manifest.read_tracks(library.out))} == {"1.mp3", "2.mp3"}
    library.tag("a", term=3)
    assert library.names() == {"a/1.mp3", "a/2.mp3"}, "the next run clears it away"


def test_who_was_displaced_while_it_wrote_its_marker_removes_nothing(library: Library) -> None:
    """The one that took over goes on from the marker before, whose files it needs."""
    library.make("a/1.mp3")
    library.tag("a", term=1)
    before = set(Path(library.out).glob("*.parquet"))
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise Stopped("another run has taken over")

    library.make("a/2.mp3")
    with pytest.raises(Stopped):
        manifest.write_manifest([library.path("a")], library.out, term=2, check=check)
    assert before < set(Path(library.out).glob("*.parquet"))
    library.tag("a", term=3)
    assert library.names() == {"a/1.mp3", "a/2.mp3"}
