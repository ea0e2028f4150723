"""Readers of a manifest that is replaced while they read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.runs.manifest.library import Library
from tonearm.errors import SourceError
from tonearm.runs.manifest import manifest
from tonearm.storage import filesystems

pytestmark = pytest.mark.usefixtures("small_parts")


def replacing(library: Library, monkeypatch: pytest.MonkeyPatch, *, num_times: int) -> Iterator[int]:
    """Have another listing end just before a part is read, so many times; yield how often it has."""
    done, real = 0, filesystems.read_bytes

    def read_bytes(url: str) -> bytes:
        nonlocal done
        if url.endswith(".parquet") and done < num_times and "/part-00001" in url:
            done += 1
            monkeypatch.setattr(filesystems, "read_bytes", real)
            library.make(f"a/new{done}.mp3")
            library.tag("a")
            monkeypatch.setattr(filesystems, "read_bytes", read_bytes)
        return real(url)

    monkeypatch.setattr(filesystems, "read_bytes", read_bytes)
    while True:
        yield done


@pytest.mark.parametrize("num_times", [1, 3])
def test_a_reader_goes_on_with_the_manifest_that_takes_the_place_of_its_own(
    library: Library, monkeypatch: pytest.MonkeyPatch, num_times: int
) -> None:
    library.make(*(f"a/{number:02d}.mp3" for number in range(11)))
    library.tag("a")
    done = replacing(library, monkeypatch, num_times=num_times)
    next(done)
    keys = manifest.read_keys(library.out)
    assert next(done) == num_times
    assert keys.tolist() == manifest.read_keys(library.out).tolist()
    assert len(keys) == 11 + num_times


def test_tracks_that_are_read_while_the_manifest_is_replaced_come_once(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.make(*(f"a/{number:02d}.mp3" for number in range(11)))
    library.tag("a")
    next(replacing(library, monkeypatch, num_times=2))
    uris = [ref.uri for ref in manifest.read_tracks(library.out)]
    assert len(uris) == len(set(uris)) == 13


def test_a_manifest_that_is_replaced_between_its_marker_and_its_parts_is_read_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.make("a/1.mp3", "b/2.mp3")
    library.tag("a")
    real = filesystems.list_files

    def list_files(url: str) -> list[str]:
        monkeypatch.setattr(filesystems, "list_files", real)
        library.tag("a", "b")
        return real(url)

    monkeypatch.setattr(filesystems, "list_files", list_files)
    assert manifest.read_manifest(library.out).num_tracks == 2


def test_a_manifest_that_never_stays_is_one_line(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.make(*(f"a/{number:02d}.mp3" for number in range(5)))
    library.tag("a")
    next(replacing(library, monkeypatch, num_times=99))
    with pytest.raises(SourceError, match="again"):
        manifest.read_keys(library.out)
