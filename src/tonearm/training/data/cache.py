"""Decoded clips on disk, so that audio is decoded once and not every epoch: memory-mapped, a shard at a time.

::

    FOLDER/KEY/00000.pcm    the samples of up to 256 tracks, one after the other
    FOLDER/KEY/00000.json   where each track lies in it, written last: a shard without it is decoded again, and so is
                            at the next opening a track that could not be read
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.streams import PcmStream
from tonearm.audio.windows import WindowPlan, dequantize
from tonearm.errors import DestinationError, TrackError
from tonearm.settings import DecodeSettings, FetchSettings
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.atomic import replacing
from tonearm.storage.filesystems import writing

TRACKS_PER_SHARD = 256
FORMAT = 2
FREE_BYTES = 512 * 2**20


@dataclasses.dataclass(frozen=True)
class Clip:
    """One cached track.

    Attributes:
        stream: its samples, a view of the file.
        digest: SHA-256 over the kept samples.
        whole: the windows of a clip that is scored whole, whatever others are kept by; see ``ClipCache.add_whole``.
    """

    stream: PcmStream
    duration_s: float
    digest: str
    whole: WindowPlan | None = None

    def beginning(self, num_samples: int) -> NDArray[np.float32]:
        """Return float32 [<= num_samples], the first that are kept."""
        return dequantize(self.stream.pcm[:num_samples], self.stream.scale)

    def windows(self, plan: WindowPlan) -> list[tuple[float, NDArray[np.float32]]]:
        """Return the kept windows of those that tagging would score, as ``(start in seconds, float32 [samples])``."""
        plan, stream = self.whole or plan, self.stream
        starts = [int(start) for start in plan.starts(stream.num_samples)]
        kept = [start for start in starts if stream.keeps(start, plan.window_samples)]
        return [(start / plan.sample_rate, stream.window(start, plan.window_samples)) for start in kept]


class ClipCache:
    """The decoded clips of a list of tracks, by their numbers in it."""

    def __init__(self, folder: Path, plan: WindowPlan, num_tracks: int) -> None:
        self.folder, self.plan, self.num_tracks = folder, plan, num_tracks
        self.errors: dict[int, TrackError] = {}
        self._entries: list[dict[str, Any]] = []
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._whole: dict[int, tuple[ClipCache, int]] = {}
        for shard in range(num_shards(num_tracks)):
            self._entries += json.loads(_index(folder, shard).read_text())["tracks"]
        for number, entry in enumerate(self._entries):
            if "error" in entry:
                self.errors[number] = TrackError(entry["error"]["message"], code=entry["error"]["code"])

    def add_whole(self, numbers: Sequence[int], other: ClipCache) -> None:
        """Take these tracks from ``other``, a cache of them alone that keeps more of each."""
        self._whole |= {number: (other, place) for place, number in enumerate(numbers)}
        self.errors |= {numbers[place]: error for place, error in other.errors.items()}

    def clip(self, number: int) -> Clip:
        """Return a track that decoded."""
        if number in self._whole:
            other, place = self._whole[number]
            return dataclasses.replace(other.clip(place), whole=other.plan)
        entry, shard = self._entries[number], number // TRACKS_PER_SHARD
        if shard not in self._maps:
            self._maps[shard] = np.memmap(_samples(self.folder, shard), np.uint8, "r")
        first, dtype = entry["offset"], np.dtype(entry["dtype"])
        kept = sum(stop - start for start, stop in entry["spans"])
        pcm = self._maps[shard][first : first + kept * dtype.itemsize].view(dtype)
        # An index of 0.1.0 does not say the rate, which is the cache's.
        stream = PcmStream.of({"sample_rate": self.plan.sample_rate, **entry}, pcm)
        return Clip(stream, entry["duration_s"], entry["digest"])


def num_shards(num_tracks: int) -> int:
    """Return how many shards hold so many tracks."""
    return -(-num_tracks // TRACKS_PER_SHARD)


def open_cache(
    base: Path,
    refs: Sequence[TrackRef],
    plan: WindowPlan,
    *,
    fetch: FetchSettings,
    decode: DecodeSettings,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: Collection[int] | None = None,
) -> ClipCache:
    """Return the cache of these tracks, decoding those that are not in it yet.

    What failed before is tried again: the store may be well, or the file repaired, or more memory allowed.

    Safe to call from several processes at once: one decodes, the others wait.

    Args:
        again: the numbers of those that are tried again if they failed; all by default.

    Raises:
        DestinationError: no space left, or a folder that cannot be written.
    """
    facts = [FORMAT, dataclasses.astuple(plan), [ref.track_key for ref in refs]]
    folder = base / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]
    with writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            request = DecodeRequest((plan,), decode.max_scored_s)
            reader = ObjectReader(fetch)
            local = _Sandboxes(decode, num_threads)
            try:
                with ThreadPoolExecutor(num_threads, thread_name_prefix="clips") as pool:
                    for shard in range(num_shards(len(refs))):
                        first = shard * TRACKS_PER_SHARD
                        part = refs[first : first + TRACKS_PER_SHARD]
                        if not _index(folder, shard).is_file():
                            tracks = pool.map(lambda ref: local.decode(reader, ref, request), part)
                            _write_shard(folder, shard, tracks, lambda done, first=first: progress(first + done))  # type: ignore[misc]
                            _check_space(folder, shard, num_shards(len(refs)))
                            continue
                        failed = _failed(folder, shard)
                        if again is not None:
                            failed = [number for number in failed if first + number in again]
                        if failed:
                            tracks = pool.map(lambda ref: local.decode(reader, ref, request), [part[n] for n in failed])
                            _mend_shard(folder, shard, dict(zip(failed, tracks, strict=True)))
                        progress(first + len(part))
            finally:
                local.close()
    return ClipCache(folder, plan, len(refs))


class _Sandboxes:
    """One decoding child a thread."""

    def __init__(self, settings: DecodeSettings, count: int) -> None:
        self._free = [DecodeSandbox(settings) for _ in range(count)]

    def decode(self, reader: ObjectReader, ref: TrackRef, request: DecodeRequest) -> DecodedTrack | TrackError:
        sandbox = self._free.pop()
        try:
            return TrackLoader(reader, sandbox, request).load(ref)
        finally:
            self._free.append(sandbox)

    def close(self) -> None:
        for sandbox in self._free:
            sandbox.close()


def _write_shard(
    folder: Path, shard: int, tracks: Iterator[DecodedTrack | TrackError], progress: Callable[[int], None]
) -> None:
    entries: list[dict[str, Any]] = []
    with _samples(folder, shard).open("wb") as file:
        for track in tracks:
            entries.append(_write_track(file, track))
            progress(len(entries))
    _write_index(folder, shard, entries)


def _mend_shard(folder: Path, shard: int, tracks: Mapping[int, DecodedTrack | TrackError]) -> None:
    """Put these tracks in the place of errors, their samples after the others'."""
    entries = json.loads(_index(folder, shard).read_text())["tracks"]
    with _samples(folder, shard).open("ab") as file:
        for number, track in tracks.items():
            entries[number] = _write_track(file, track)
    _write_index(folder, shard, entries)


def _failed(folder: Path, shard: int) -> list[int]:
    entries = json.loads(_index(folder, shard).read_text())["tracks"]
    return [number for number, entry in enumerate(entries) if "error" in entry]


def _write_track(file: BinaryIO, track: DecodedTrack | TrackError) -> dict[str, Any]:
    """Append a track's samples; return what the index says of it."""
    if isinstance(track, TrackError):
        return {"error": {"code": track.code, "message": track.message}}
    (stream,) = track.streams
    samples, offset = stream.pcm.tobytes(), file.tell()
    file.write(samples)
    return {
        "offset": offset,
        **stream.header(),
        "duration_s": track.info.duration_s,
        "digest": hashlib.sha256(samples).hexdigest(),
    }


def _write_index(folder: Path, shard: int, entries: list[dict[str, Any]]) -> None:
    with replacing(_index(folder, shard)) as partial:
        partial.write_text(json.dumps({"tracks": entries}))


def _check_space(folder: Path, shard: int, count: int) -> None:
    """Say after the first shard, not after the last, that the disk is too small."""
    if shard:
        return
    size, free = _samples(folder, shard).stat().st_size, shutil.disk_usage(folder).free
    if size * (count - 1) + FREE_BYTES > free:
        raise DestinationError(
            f"the decoded clips need some {size * count / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} GiB free; "
            "free some or name a folder on another disk with cache = ..."
        )


def _samples(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.pcm"


def _index(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.json"
