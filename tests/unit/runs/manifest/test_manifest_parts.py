"""The parts of a manifest: joined while small, named when damaged, and one key for each object."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runs.manifest.library import Library
from tonearm.errors import SourceError
from tonearm.runs.manifest import manifest, manifest_merge
from tonearm.sources import track_ref
from tonearm.storage import filesystems

pytestmark = pytest.mark.usefixtures("small_parts")


def test_small_parts_are_joined(library: Library) -> None:
    for number in range(40):
        library.make(f"a/{number:02d}.mp3")
        library.tag(f"a/{number:02d}.mp3")
    assert len(library.names()) == 40
    assert len(manifest.read_manifest(library.out).parts) <= 10 + manifest_merge.MANY_SMALL + 1


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 no more", b"uri\n"])
def test_a_part_that_is_gone_or_damaged_is_one_line_and_its_source_mends_it(
    library: Library, damage: bytes | None
) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    part = Path(library.tag("a").parts[0])
    part.unlink() if damage is None else part.write_bytes(damage)
    for read in (manifest.read_keys, lambda folder: list(manifest.read_tracks(folder))):
        with pytest.raises(SourceError, match=f"{part.name}.*run tonearm tag with its sources again"):
            read(library.out)
    with pytest.raises(
        SourceError, match=f"{part.name}.*run tonearm tag with its sources again \\({library.path('a')}"
    ):
        library.tag("b")
    library.tag("a")
    library.tag("b")
    assert library.names() == {"a/1.mp3", "b/2.mp3"}


def test_a_part_that_a_stores_listing_does_not_show_yet_is_there(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.make("a/1.mp3")
    monkeypatch.setattr(filesystems, "list_files", lambda url: [])
    made = library.tag("a")
    assert manifest.read_manifest(library.out) == made


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of objects that have one key at first."""
    names: set[str] = set()
    real = track_ref.track_key

    def clashing(uri: str, size: int | None, etag: str | None, modified: object, salt: int = 0) -> int:
        return 70 if not salt and uri.rpartition("/")[2] in names else real(uri, size, etag, modified, salt)

    monkeypatch.setattr(track_ref, "track_key", clashing)
    return names


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"], ["a", "b", "b"], ["a", "b", "a", "b"], ["ab"], ["ab", "b"]])
def test_objects_of_several_sources_that_share_a_key_get_keys_of_their_own(
    library: Library, meeting: set[str], order: list[str]
) -> None:
    meeting |= {"2", "3"}
    library.table("a.csv", "1", "2")
    library.table("b.csv", "3", "4")
    for names in order:
        made = library.tag(*(f"{name}.csv" for name in names))
        assert sorted(ref.track_key for ref in made.tracks()) == made.keys.tolist()
        assert made.digest == manifest._keys_digest(made.keys)
    assert library.names() == {"1", "2", "3", "4"}
    found = {ref.uri: ref.track_key for ref in manifest.read_tracks(library.out)}
    salts = {"1": 0, "2": 1, "3": 1, "4": 0}
    expected = {f"s3://b/{x}": track_ref.track_key(f"s3://b/{x}", 3, None, None, salt) for x, salt in salts.items()}
    assert found == expected, "whatever the order"
