"""The manifest: streamed, whole or not there, every object under a key of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tonearm.errors import DestinationError, SourceError
from tonearm.runs.manifest import manifest, manifest_merge, manifest_parts
from tonearm.runs.rows.schema import MANIFEST
from tonearm.sources import track_ref
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return folder


def listing(folder: Path, *names: str, size: int = 3) -> str:
    """Write a table of objects in a store, which nothing looks up; return its path."""
    path = folder / "listing.csv"
    path.write_text("uri,size\n" + "".join(f"s3://bucket/{name},{size}\n" for name in names))
    return str(path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have parts of four rows, read and written two at a time."""
    monkeypatch.setattr(manifest_parts, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_merge, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_parts, "BATCH_ROWS", 2)


def num_rows(made: manifest.Manifest) -> list[int]:
    return [pq.read_metadata(part).num_rows for part in made.parts]


@pytest.mark.parametrize(
    ("num_tracks", "parts", "told"),
    [
        (1, [1], [1]),
        (2, [2], [2]),
        (4, [4], [2, 4]),
        (5, [4, 1], [2, 4, 5]),
        (8, [4, 4], [2, 4, 6, 8]),
        (11, [4, 4, 3], [2, 4, 6, 8, 10, 11]),
    ],
)
@pytest.mark.usefixtures("small_parts")
def test_parts_are_full_but_the_last_and_progress_is_told_by_batch(
    tmp_path: Path, num_tracks: int, parts: list[int], told: list[int]
) -> None:
    names = [f"{number:02d}.mp3" for number in range(num_tracks)]
    heard: list[int] = []
    made = manifest.write_manifest([listing(tmp_path, *names)], str(tmp_path / "out"), progress=heard.append)
    assert heard == told
    assert num_rows(made) == parts
    assert (made.num_tracks, made.num_bytes, made.path) == (num_tracks, 3 * num_tracks, str(tmp_path / "out"))
    (token,) = {re.fullmatch(r"part-\d{5}-([0-9a-f]{8})\.parquet", Path(part).name)[1] for part in made.parts}
    assert made.parts == tuple(f"{tmp_path}/out/part-{number:05d}-{token}.parquet" for number in range(len(parts)))
    refs = list(manifest.read_tracks(str(tmp_path / "out")))
    assert [ref.uri for ref in refs] == [f"s3://bucket/{name}" for name in names]
    keys = [track_ref.track_key(f"s3://bucket/{name}", 3, None, None) for name in names]
    assert [ref.track_key for ref in refs] == keys
    assert manifest.read_keys(str(tmp_path / "out")).tolist() == sorted(keys)
    assert made.digest == hashlib.sha256(np.array(sorted(keys), "<i8").tobytes()).hexdigest()[:16]
    assert manifest.read_manifest(str(tmp_path / "out")) == made
    assert manifest.write_manifest([listing(tmp_path, *names[::-1])], str(tmp_path / "out")).digest == made.digest


def test_a_part_is_of_50_000_tracks_and_every_2_000_are_told(tmp_path: Path) -> None:
    heard: list[int] = []
    source = listing(tmp_path, *(f"{number}.mp3" for number in range(50_001)))
    made = manifest.write_manifest([source], str(tmp_path / "out"), progress=heard.append)
    assert num_rows(made) == [50_000, 1]
    assert heard == [*range(2_000, 50_001, 2_000), 50_001]


def test_the_marker_is_text_for_people_too_and_can_be_moved_with_its_parts(tmp_path: Path) -> None:
    library = make(tmp_path / "music", "a.mp3", "b.mp3", "c.txt", "d.txt", "e.pdf", "f")
    made = manifest.write_manifest([str(library)], str(tmp_path / "out"), limit=2)
    text = (tmp_path / "out" / manifest.MARKER).read_text()
    assert text.startswith('{\n "format": 2,\n "num_tracks": 2,\n "num_bytes": 2,\n "skipped": {')
    top = {"format", "num_tracks", "num_bytes", "skipped", "parts", "digest", "listings", "shared_keys", "term"}
    assert set(json.loads(text)) == top
    assert json.loads(text)["parts"] == [Path(made.parts[0]).name]
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = manifest.read_manifest(str(tmp_path / "moved"))
    assert moved == dataclasses.replace(
        made, path=str(tmp_path / "moved"), parts=(f"{tmp_path}/moved/{Path(made.parts[0]).name}",)
    )


def test_what_was_skipped_is_told_the_most_frequent_first(tmp_path: Path) -> None:
    library = make(tmp_path / "music", "a.pdf", "b.mp3", "c.txt", "d.txt", "e.txt", "f.doc", "g.doc")
    made = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    assert list(made.skipped.items()) == [(".txt", 3), (".doc", 2), (".pdf", 1)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.num_tracks = 3  # type: ignore[misc]


def test_a_limit_is_of_tracks_of_all_sources(tmp_path: Path) -> None:
    sources = [str(make(tmp_path / name, "1.mp3", "2.mp3")) for name in ("a", "b")]
    made = manifest.write_manifest(sources, str(tmp_path / "out"), limit=3)
    assert (made.num_tracks, made.num_bytes) == (3, 3)


def test_parts_that_no_marker_names_go_with_the_next_listing_and_other_files_stay(tmp_path: Path) -> None:
    library, out = make(tmp_path / "music", "a.mp3"), tmp_path / "out"
    before = manifest.write_manifest([str(library)], str(out))
    make(out, "part-00000-0badf00d.parquet", "part-00007-0badf00d.parquet", "notes.txt")
    assert manifest.read_manifest(str(out)) == before, "what lies beside it does not matter"
    made = manifest.write_manifest([str(library)], str(out))
    assert made.parts != before.parts
    assert {path.name for path in out.iterdir()} == {manifest.MARKER, Path(made.parts[0]).name, "notes.txt"}


@pytest.mark.usefixtures("small_parts")
def test_a_folder_may_be_relative_or_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = listing(tmp_path, *"abcde")
    monkeypatch.chdir(tmp_path)
    made = manifest.write_manifest([source], "out/")
    assert made.path == str(tmp_path / "out")
    assert manifest.read_manifest("out") == made
    assert all(Path(part).parent == tmp_path / "out" for part in made.parts)
    stored = manifest.write_manifest([source], "memory://manifests/labels/")
    assert stored.path == "memory://manifests/labels"
    assert [part.rpartition("/")[0] for part in stored.parts] == ["memory://manifests/labels"] * 2
    assert len(fsspec.filesystem("memory").ls("/manifests/labels")) == 3
    assert manifest.read_manifest("memory://manifests/labels") == stored
    assert [ref.uri for ref in manifest.read_tracks("memory://manifests/labels/")] == [
        f"s3://bucket/{x}" for x in "abcde"
    ]
    assert stored.digest == made.digest


READERS = (manifest.read_manifest, manifest.read_keys, lambda folder: next(manifest.read_tracks(folder)))


def test_without_a_marker_there_is_no_manifest(tmp_path: Path) -> None:
    for read in READERS:
        with pytest.raises(SourceError, match=r"no finished manifest in .*run tonearm tag with its sources again"):
            read(str(tmp_path))


@pytest.mark.parametrize("text", ["", '{"num_tracks": 1', "no JSON"])
def test_a_damaged_marker_is_not_taken_for_a_missing_one(tmp_path: Path, text: str) -> None:
    (tmp_path / manifest.MARKER).write_text(text)
    for read in READERS:
        with pytest.raises(DestinationError, match=r"_manifest\.json is not what tonearm writes"):
            read(str(tmp_path))


@pytest.mark.usefixtures("small_parts")
def test_of_parts_that_are_gone_the_first_is_named(tmp_path: Path) -> None:
    made = manifest.write_manifest([listing(tmp_path, *"abcdefghi")], str(tmp_path / "out"))
    for part in made.parts[1:]:
        Path(part).unlink()
    with pytest.raises(SourceError, match=f"lacks {Path(made.parts[1]).name}; run tonearm tag with its sources again"):
        manifest.read_manifest(str(tmp_path / "out"))


def test_a_manifest_of_nothing_has_no_keys(tmp_path: Path) -> None:
    made = manifest.write_manifest([listing(tmp_path, "a.mp3")], str(tmp_path / "out"))
    marker = json.loads((tmp_path / "out" / manifest.MARKER).read_text())
    (tmp_path / "out" / manifest.MARKER).write_text(json.dumps(marker | {"parts": [], "listings": []}))
    keys = manifest.read_keys(made.path)
    assert (keys.dtype, keys.tolist()) == (np.int64, [])
    assert list(manifest.read_tracks(made.path)) == []


def test_refs_are_a_table_of_the_manifests_schema() -> None:
    refs = [
        TrackRef(5, "/m/a.mp3", 12, None, track_ref.EPOCH),
        TrackRef(7, "s3://b/c", None, "e7", None),
    ]
    table = manifest.to_table(refs)
    assert table.schema.equals(MANIFEST, check_metadata=True)
    assert [TrackRef(**row) for row in table.to_pylist()] == refs


def test_one_row_a_track_and_the_same_digest_again(tmp_path: Path) -> None:
    library = make(tmp_path / "music", "a.mp3", "b/c.flac", "d.txt")
    first = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    assert (first.num_tracks, first.num_bytes, dict(first.skipped)) == (2, 2, {".txt": 1})
    again = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    assert again.digest == first.digest
    assert manifest.read_manifest(str(tmp_path / "out")) == again
    assert [ref.uri for ref in manifest.read_tracks(str(tmp_path / "out"))] == [
        str(library / "a.mp3"),
        str(library / "b/c.flac"),
    ]
    (library / "a.mp3").write_bytes(b"12")
    assert manifest.write_manifest([str(library)], str(tmp_path / "out")).digest != first.digest


def test_a_listing_that_breaks_off_leaves_the_manifest_before_whole(tmp_path: Path) -> None:
    library = make(tmp_path / "music", "a.mp3")
    before = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    table = tmp_path / "tracks.csv"
    table.write_text("uri,size\nmusic/a.mp3,\ns3://b/k,many\n")
    with pytest.raises(SourceError, match="row 2"):
        manifest.write_manifest([str(table)], str(tmp_path / "out"))
    assert manifest.read_manifest(str(tmp_path / "out")) == before
    assert len(manifest.read_keys(str(tmp_path / "out"))) == 1


def test_objects_that_share_a_key_get_keys_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make(tmp_path / "music", *(f"{number}.mp3" for number in range(20)))
    real = track_ref.track_key

    def clashing(uri: str, size: object, etag: object, modified: object, salt: int = 0) -> int:
        return real(uri, size, etag, modified, salt) if salt else 7 + int(Path(uri).stem) % 2

    monkeypatch.setattr(track_ref, "track_key", clashing)
    made = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    keys = manifest.read_keys(str(tmp_path / "out"))
    assert made.num_tracks == 20 == len(np.unique(keys))
    again = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    assert again.digest == made.digest


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Keys that objects are to have at first, by name; any other object, and any further key, has its real one."""
    first: dict[str, int] = {}
    real = track_ref.track_key

    def clashing(uri: str, size: int | None, etag: str | None, modified: object, salt: int = 0) -> int:
        name = f"{uri.rpartition('/')[2]}{f'+{salt}' if salt else ''}"
        return first[name] if name in first else real(uri, size, etag, modified, salt)

    monkeypatch.setattr(track_ref, "track_key", clashing)
    yield first


def real_key(name: str, salt: int = 0) -> int:
    return track_ref.track_key(f"s3://bucket/{name}", 3, None, None, salt)


@pytest.mark.usefixtures("small_parts")
def test_objects_that_meet_across_parts_are_told_apart_and_no_other_is_touched(
    tmp_path: Path, meeting: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a to d, e to h, i to l and m to p: e meets n, and f, o and p do."""
    meeting.update({"e": 70, "n": 70, "f": 80, "o": 80, "p": 80})
    written: list[str] = []
    real = filesystems.write_table

    def write_table(url: str, table: object) -> None:
        written.append(url)
        real(url, table)

    monkeypatch.setattr(filesystems, "write_table", write_table)
    made = manifest.write_manifest([listing(tmp_path, *"abcdefghijklmnop")], str(tmp_path / "out"))
    assert written == [*made.parts, made.parts[1], made.parts[3]]
    expected = {name: real_key(name, salt=1 if name in meeting else 0) for name in "abcdefghijklmnop"}
    found = {ref.uri.rpartition("/")[2]: ref.track_key for ref in manifest.read_tracks(made.path)}
    assert found == expected
    assert manifest.read_keys(made.path).tolist() == sorted(expected.values())
    assert made.digest == hashlib.sha256(np.array(sorted(expected.values()), "<i8").tobytes()).hexdigest()[:16]
    assert made.num_tracks == 16
    for part in made.parts:
        assert pq.read_schema(part).equals(MANIFEST, check_metadata=True)
    backwards = manifest.write_manifest([listing(tmp_path, *"ponmlkjihgfedcba")], str(tmp_path / "out"))
    assert backwards.digest == made.digest
    assert {ref.uri.rpartition("/")[2]: ref.track_key for ref in manifest.read_tracks(made.path)} == expected


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
def test_a_key_that_is_taken_already_is_not_given_again(tmp_path: Path, meeting: dict[str, int], order: str) -> None:
    # The second key of a is that of c, its third that of b; what b would get next is a's, who comes first.
    meeting.update({"a": 70, "b": 70, "c": 71, "d": 72, "a+1": 71, "a+2": 70, "a+3": 73, "b+1": 73, "b+2": 74})
    made = manifest.write_manifest([listing(tmp_path, *order)], str(tmp_path / "out"))
    found = {ref.uri.rpartition("/")[2]: ref.track_key for ref in manifest.read_tracks(made.path)}
    assert found == {"a": 73, "b": 74, "c": 71, "d": 72}


@pytest.mark.parametrize("names", ["ab", "abc", "xab", "abxy"])
@pytest.mark.parametrize("key", [1, 2**62])
def test_two_that_meet_are_found_wherever_their_key_sorts(
    tmp_path: Path, meeting: dict[str, int], names: str, key: int
) -> None:
    meeting.update({"a": key, "b": key})
    made = manifest.write_manifest([listing(tmp_path, *names)], str(tmp_path / "out"))
    keys = manifest.read_keys(made.path)
    assert len(set(keys.tolist())) == len(names) == made.num_tracks
    assert key not in keys


def test_a_manifest_without_its_marker_or_a_part_is_none(tmp_path: Path) -> None:
    library = make(tmp_path / "music", "a.mp3")
    made = manifest.write_manifest([str(library)], str(tmp_path / "out"))
    Path(made.parts[0]).unlink()
    with pytest.raises(SourceError, match="lacks part-00000"):
        manifest.read_manifest(str(tmp_path / "out"))
    (tmp_path / "out" / manifest.MARKER).unlink()
    with pytest.raises(SourceError, match="no finished manifest"):
        manifest.read_manifest(str(tmp_path / "out"))


@pytest.mark.processes
def test_a_million_objects_stream_within_500_megabytes(tmp_path: Path) -> None:
    code = f"""
import datetime
from tonearm.runs.manifest import manifest
from tonearm.sources import buckets
when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
def page(bucket, prefix, max_keys=1000):
    if max_keys == 1:
        return iter(())
    return ((f"music/artist {{n // 100:05d}}/album/{{n:07d}} a track of an ordinary name.mp3", n, f"{{n:032x}}", when)
            for n in range(1_000_000))
buckets._s3_objects = page
made = manifest.write_manifest(["s3://bucket/music"], {str(tmp_path)!r})
# Not getrusage: its peak includes that of the process that this one was forked from.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(made.num_tracks, len(made.parts), int(peak.split()[1]) // 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    num_tracks, num_parts, peak_mb = map(int, run.stdout.split())
    assert (num_tracks, num_parts) == (1_000_000, 20)
    assert peak_mb < 500
    assert pq.ParquetFile(next(iter(tmp_path.glob("part-00000-*.parquet")))).metadata.num_rows == 50_000
