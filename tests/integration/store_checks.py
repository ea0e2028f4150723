"""What any S3 server must be able to show; each server's own test module runs them all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.one_process import tonearm
from tests.servers.s3 import S3Server
from tonearm.errors import DestinationError, FetchError, SourceError, Stopped
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.settings import FetchSettings
from tonearm.sources.listing import ListingCounts, TrackRef, list_tracks
from tonearm.sources.reader import ObjectReader
from tonearm.storage import filesystems

ODD_KEYS = ["a b.mp3", "a#b?c.mp3", "100%.mp3", "%41.mp3", "[Live] *.mp3", "é→.mp3", "a+b&c=d.mp3", "x//y.mp3"]


def listed(source: str) -> dict[str, TrackRef]:
    return {ref.uri: ref for ref in list_tracks([source])}


def check_listing(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, dict.fromkeys(("music/a.mp3", "music/sub/b.FLAC", "musical/c.mp3", "music/x.txt", "d.ogg"), b"1"))
    assert set(listed(f"s3://{bucket}/music")) == {f"s3://{bucket}/music/a.mp3", f"s3://{bucket}/music/sub/b.FLAC"}
    assert len(listed(f"s3://{bucket}")) == 4
    assert set(listed(f"s3://{bucket}/mus*/*.mp3")) == {f"s3://{bucket}/music/a.mp3", f"s3://{bucket}/musical/c.mp3"}
    (one,) = listed(f"s3://{bucket}/d.ogg").values()
    assert (one.size_bytes, bool(one.etag), one.modified is not None) == (1, True, True)
    counts = ListingCounts()
    list(list_tracks([f"s3://{bucket}/"], counts=counts))
    assert counts.skipped == Counter({".txt": 1})


def check_pages(s3: S3Server, num_objects: int = 1100) -> None:
    bucket = s3.bucket()
    s3.fs.pipe({f"{bucket}/{number:05d}.mp3": b"1" for number in range(num_objects)})
    assert len(listed(f"s3://{bucket}")) == num_objects  # a page holds 1000


def check_odd_keys(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, {key: key.encode() for key in ODD_KEYS})
    refs = listed(f"s3://{bucket}")
    assert set(refs) == {f"s3://{bucket}/{key}" for key in ODD_KEYS}
    reader = ObjectReader(FetchSettings())
    for uri, ref in refs.items():
        assert reader.read(ref).decode() == uri.removeprefix(f"s3://{bucket}/")


def check_reading(s3: S3Server) -> None:
    bucket = s3.bucket()
    data = bytes(range(256)) * 40_000  # 10 MB: many chunks
    s3.put(bucket, {"a.mp3": data, "b.mp3": b"old", "c.mp3": b"gone soon"})
    refs = listed(f"s3://{bucket}")
    reader = ObjectReader(FetchSettings(num_attempts=2, backoff_s=0.01))
    assert reader.read(refs[f"s3://{bucket}/a.mp3"]) == data
    s3.put(bucket, {"b.mp3": b"new"})
    s3.fs.rm_file(f"{bucket}/c.mp3")
    for name, code in (("b", "changed"), ("c", "not_found")):
        with pytest.raises(FetchError) as caught:
            reader.read(refs[f"s3://{bucket}/{name}.mp3"])
        assert caught.value.code == code
    with pytest.raises(FetchError) as caught:
        ObjectReader(FetchSettings(max_bytes=1000)).read(refs[f"s3://{bucket}/a.mp3"])
    assert caught.value.code == "too_large"


def check_refusals(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    s3.put(bucket, {"a.mp3": b"1"})
    with pytest.raises(SourceError, match="check the spelling"):
        listed(f"s3://{bucket}/nothing/here")
    with pytest.raises(SourceError, match="no bucket"):
        listed("s3://no-bucket-of-this-name/music")
    with pytest.raises(DestinationError, match="create the bucket"):
        filesystems.write_text("s3://no-bucket-of-this-name/a.txt", "x")
    (ref,) = listed(f"s3://{bucket}").values()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match=r"may not be read .*check the keys") as caught:
        listed(f"s3://{bucket}")
    assert "wrong" not in caught.value.message
    with pytest.raises(FetchError) as refused:
        ObjectReader(FetchSettings()).read(ref)
    assert refused.value.code == "access_denied"
    with pytest.raises(DestinationError, match="give a place you may write"):
        filesystems.write_text(f"s3://{bucket}/a.txt", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be reached .*AWS_ENDPOINT_URL"):
        listed(f"s3://{bucket}")


def check_manifest(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, {f"{number}.mp3": b"1" for number in range(5)})
    made = manifest.write_manifest([f"s3://{bucket}"], f"s3://{bucket}/out/manifest")
    again = manifest.write_manifest([f"s3://{bucket}"], f"s3://{bucket}/out/manifest")
    assert (made.num_tracks, made.digest) == (5, again.digest)
    assert manifest.read_manifest(f"s3://{bucket}/out/manifest") == again
    assert len(s3.fs.ls(f"{bucket}/out/manifest")) == 2  # one part and the marker: the parts before are gone
    assert len(manifest.read_keys(f"s3://{bucket}/out/manifest")) == 5


def check_run(s3: S3Server, songs: Path, tmp_path: Path) -> None:
    """Tag from a bucket to a bucket, run again, change one object and add one, run again."""
    bucket = s3.bucket()
    files = sorted(songs.glob("*/*"))
    for path in files[:-1]:
        s3.fs.put_file(str(path), f"{bucket}/music/{path.name}")
    s3.put(bucket, {"music/broken.mp3": b"not audio at all" * 50, "music/cover.jpg": b"x"})
    source, out = f"s3://{bucket}/music", f"s3://{bucket}/labels/v1"
    command = ["tag", source, "--out", out, "--demo-models", "--max-error-rate", "0.5"]
    run = tonearm(*command, **s3.env)
    assert run.returncode == 0, run.stderr
    rows = _rows(s3, f"{bucket}/labels/v1")
    assert len(rows) == len(files) == len({row["track_key"] for row in rows})
    assert Counter(row["status"] for row in rows) == Counter(ok=len(files) - 1, error=1)
    assert all(row["etag"] and row["size_bytes"] and row["uri"].startswith(source) for row in rows)
    report = s3.fs.cat_file(f"{bucket}/labels/v1/report.html").decode()
    assert "not_audio" in report
    (summary,) = s3.fs.glob(f"{bucket}/labels/v1/runs/*.json")
    assert json.loads(s3.fs.cat_file(summary))["results"]["num_ok"] == len(files) - 1

    again = tonearm(*command, **s3.env)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert _rows(s3, f"{bucket}/labels/v1") == rows

    s3.fs.put_file(str(files[-1]), f"{bucket}/music/new.{files[-1].suffix}")
    s3.fs.put_file(str(files[-1]), f"{bucket}/music/{files[0].name}")
    third = tonearm(*command, **s3.env)
    assert third.returncode == 0, third.stderr
    assert third.stdout.startswith("2 tracks tagged"), third.stdout
    after = _rows(s3, f"{bucket}/labels/v1")
    assert len(after) == len(rows) + 2
    before = {row["track_key"] for row in rows}
    assert [row for row in after if row["track_key"] in before] == rows
    exported = tonearm("export", out, tmp_path / "tracks.csv", **s3.env)
    assert exported.returncode == 0, exported.stderr
    assert len((tmp_path / "tracks.csv").read_text().splitlines()) == 1 + len(rows) + 1  # only the latest versions


def _rows(s3: S3Server, out: str) -> list[dict[str, object]]:
    rows = []
    for path in s3.fs.glob(f"{out}/tracks/*.parquet"):
        with s3.fs.open(path, "rb") as file:
            rows += pq.read_table(file).to_pylist()
    return sorted(rows, key=lambda row: row["track_key"])


def check_lock(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that take the lock at once one holds it, whatever the server makes of If-None-Match."""
    place = Destination.of(f"s3://{s3.bucket()}/out")
    url = run_lock.lock_url(place)
    filesystems.create_bytes(place.join("once.txt"), b"first")
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(place.join("once.txt"), b"second")
    assert filesystems.read_bytes(place.join("once.txt"), max_bytes=100) == b"first"
    filesystems.write_bytes(place.join("empty.txt"), b"")
    assert filesystems.read_bytes(place.join("empty.txt"), max_bytes=100) == b""
    terms: list[int] = []
    for _ in range(3):
        holds, messages = _race(place, 8)
        assert len(holds) == 1 and len(messages) == 7, (len(holds), messages)
        assert all("is writing to" in message for message in messages), messages
        holds[0].check()
        terms.append(holds[0].term)
        holds[0].release()
        assert run_lock.read_holder(place) is None
    assert terms == sorted(set(terms)), terms
    _check_takeover(place, url, monkeypatch)


def _check_takeover(place: Destination, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent lock is taken over; its holder, when it wakes, finds that out and deletes nothing."""
    monkeypatch.setattr(run_lock, "STALE_S", 1.0)
    monkeypatch.setattr(run_lock, "POLL_S", 0.1)
    said: list[str] = []
    first = run_lock.acquire(url, place.url, machine=run_lock.Machine("first", "one", ""))
    second = run_lock.acquire(url, place.url, machine=run_lock.Machine("second", "two", ""), waiting=said.append)
    assert second.term == first.term + 1 and len(said) == 1
    first.beat()
    with pytest.raises(Stopped, match="on second"):
        first.check()
    first.release()
    second.check()
    second.release()
    assert run_lock.read_holder(place) is None
    # One that beats is respected.
    third = run_lock.acquire(url, place.url, machine=run_lock.Machine("third", "three", ""))
    ended = threading.Event()
    beating = threading.Thread(target=lambda: [third.beat() for _ in iter(lambda: ended.wait(0.2), True)])
    beating.start()
    with pytest.raises(DestinationError, match="on third"):
        run_lock.acquire(url, place.url)
    ended.set()
    beating.join()
    third.release()


def _race(place: Destination, num_writers: int) -> tuple[list[run_lock.Hold], list[str]]:
    gate, holds, messages = threading.Barrier(num_writers), [], []

    def start() -> None:
        gate.wait()
        try:
            holds.append(run_lock.acquire(run_lock.lock_url(place), place.url))
        except DestinationError as error:
            messages.append(error.message)

    threads = [threading.Thread(target=start) for _ in range(num_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return holds, messages
