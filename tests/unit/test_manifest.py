"""The manifest: streamed, whole or not there, every object under a key of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tonearm.errors import SourceError
from tonearm.library import manifest, track_ref


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return folder


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
    table.write_text('uri\nmusic/a.mp3\n""\n')
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
from tonearm.library import manifest, sources, store_listing
when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
def page(bucket, prefix, max_keys=1000):
    if max_keys == 1:
        return iter(())
    return ((f"music/artist {{n // 100:05d}}/album/{{n:07d}} a track of an ordinary name.mp3", n, f"{{n:032x}}", when)
            for n in range(1_000_000))
store_listing._s3_objects = page
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
