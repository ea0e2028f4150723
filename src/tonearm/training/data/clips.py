"""Decoded clips on disk, so that audio is decoded once and not every epoch: memory-mapped, a shard at a time.

::

    FOLDER/KEY/00000.pcm    the samples of up to 256 clips, one after the other
    FOLDER/KEY/00000.json   where each clip lies in it, written last: a shard without it is decoded again, and so is
                            at the next opening a clip that could not be read

KEY is a hash of the tracks' keys in their order and of the windows.
A ``ClipSet`` joins caches: windows spread over each clip to learn from, and held-out clips whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.streams import PcmStream
from tonearm.audio.windows import WindowPlan, dequantize
from tonearm.errors import DestinationError, TrackError
from tonearm.settings import DecodeSettings, FetchSettings, TrainSettings
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.atomic import replacing
from tonearm.storage.filesystems import writing
from tonearm.surroundings import cache_folder
from tonearm.training.data.collection import ClipId

TRACKS_PER_SHARD = 256
FORMAT = 2
FREE_BYTES = 512 * 2**20

T = TypeVar("T")
Refs: TypeAlias = Mapping[ClipId, TrackRef]


@dataclasses.dataclass(frozen=True)
class Clip:
    """One cached clip.

    Attributes:
        stream: its samples, a view of the file.
        digest: SHA-256 over the kept samples.
        plan: the windows that it is kept for.
    """

    stream: PcmStream
    duration_s: float
    digest: str
    plan: WindowPlan

    def beginning(self, num_samples: int) -> NDArray[np.float32]:
        """Return float32 [<= num_samples], the first that are kept."""
        return dequantize(self.stream.pcm[:num_samples], self.stream.scale)

    def windows(self) -> list[tuple[float, NDArray[np.float32]]]:
        """Return the kept windows of those that tagging would score, as ``(start in seconds, float32 [samples])``."""
        plan, stream = self.plan, self.stream
        starts = [int(start) for start in plan.starts(stream.num_samples)]
        kept_starts = [start for start in starts if stream.keeps(start, plan.window_samples)]
        return [(start / plan.sample_rate, stream.window(start, plan.window_samples)) for start in kept_starts]


class ClipCache:
    """The decoded clips of one folder, by their ids; ``errors`` says why others could not be decoded."""

    def __init__(self, folder: Path, plan: WindowPlan, ids: Iterable[ClipId]) -> None:
        self.folder, self.plan = folder, plan
        self.errors: dict[ClipId, TrackError] = {}
        self._entries: dict[ClipId, tuple[int, dict[str, Any]]] = {}
        self._maps: dict[int, NDArray[np.uint8]] = {}
        # The order of the ids is part of the folder's name, so it tells each clip's place in its shard.
        for shard, clips in enumerate(_shards(list(ids))):
            entries = json.loads(_index(folder, shard).read_text())["tracks"]
            for clip, entry in zip(clips, entries, strict=True):
                if "error" in entry:
                    self.errors[clip] = TrackError(entry["error"]["message"], code=entry["error"]["code"])
                self._entries[clip] = (shard, entry)

    def clip(self, clip: ClipId) -> Clip:
        """Return a clip that decoded."""
        shard, entry = self._entries[clip]
        if shard not in self._maps:
            self._maps[shard] = np.memmap(_samples(self.folder, shard), np.uint8, "r")
        first, dtype = entry["offset"], np.dtype(entry["dtype"])
        num_kept = sum(stop - start for start, stop in entry["spans"])
        pcm = self._maps[shard][first : first + num_kept * dtype.itemsize].view(dtype)
        # An index of 0.1.0 does not say the rate, which is the cache's.
        stream = PcmStream.of({"sample_rate": self.plan.sample_rate, **entry}, pcm)
        return Clip(stream, entry["duration_s"], entry["digest"], self.plan)


def _shards(things: Sequence[T]) -> list[Sequence[T]]:
    return [things[first : first + TRACKS_PER_SHARD] for first in range(0, len(things), TRACKS_PER_SHARD)]


def open_cache(
    base: Path,
    refs: Mapping[ClipId, TrackRef],
    plan: WindowPlan,
    *,
    fetch: FetchSettings,
    decode: DecodeSettings,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: Collection[ClipId] | None = None,
) -> ClipCache:
    """Return the cache of these clips, decoding those that are not in it yet.

    What failed before is tried again: the store may be well, or the file repaired, or more memory allowed.

    Safe to call from several processes at once: one decodes, the others wait.

    Args:
        refs: where each clip is; their order is part of what the cache is known by.
        again: those that are tried again if they failed; all by default.

    Raises:
        DestinationError: no space left, or a folder that cannot be written.
    """
    # A changed file has another key, so its clips are never taken from an older cache.
    facts = [FORMAT, dataclasses.astuple(plan), [ref.track_key for ref in refs.values()]]
    folder = base / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]
    with writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"), _Decoder(fetch, decode, plan, num_threads) as decoder:
            shards = _shards(list(refs))
            for shard, clips in enumerate(shards):
                first = shard * TRACKS_PER_SHARD
                if not _index(folder, shard).is_file():
                    tracks = decoder.decode([refs[clip] for clip in clips])
                    _write_shard(folder, shard, tracks, lambda done, first=first: progress(first + done))  # type: ignore[misc]
                    _check_space(folder, shard, len(shards))
                    continue
                failed = [place for place in _failed(folder, shard) if again is None or clips[place] in again]
                if failed:
                    tracks = decoder.decode([refs[clips[place]] for place in failed])
                    _mend_shard(folder, shard, dict(zip(failed, tracks, strict=True)))
                progress(first + len(clips))
    return ClipCache(folder, plan, refs)


class _Decoder:
    """Decodes on several threads, each with its own sandboxed child process."""

    def __init__(self, fetch: FetchSettings, decode: DecodeSettings, plan: WindowPlan, num_threads: int) -> None:
        self._reader, self._request = ObjectReader(fetch), DecodeRequest((plan,), decode.max_scored_s)
        self._free = [DecodeSandbox(decode) for _ in range(num_threads)]
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="clips")

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for sandbox in self._free:
            sandbox.close()

    def decode(self, refs: Sequence[TrackRef]) -> Iterator[DecodedTrack | TrackError]:
        """Yield each one's samples, or why there are none, in order."""
        return self._pool.map(self._decode, refs)

    def _decode(self, ref: TrackRef) -> DecodedTrack | TrackError:
        # There are as many children as threads, so one is always free.
        sandbox = self._free.pop()
        try:
            return TrackLoader(self._reader, sandbox, self._request).load(ref)
        finally:
            self._free.append(sandbox)


def _write_shard(
    folder: Path, shard: int, tracks: Iterator[DecodedTrack | TrackError], progress: Callable[[int], None]
) -> None:
    entries: list[dict[str, Any]] = []
    with _samples(folder, shard).open("wb") as file:
        for track in tracks:
            entries.append(_write_track(file, track))
            progress(len(entries))
    # The index last: a shard without one was not finished, and is decoded again.
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
    """Append a track's samples; return its entry for the index."""
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
    """Refuse a disk that is too small."""
    # The first shard tells how large the others will be: it is said now and not after hours.
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


class ClipSet:
    """Decoded clips by their ids, from one cache or several; a later one goes before those before it.

    Attributes:
        caches: the clips of each cache, in their order, and where they are: what each is known by.
        errors: why others could not be decoded.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.caches: list[Refs] = []
        self.refs: dict[ClipId, TrackRef] = {}
        self.errors: dict[ClipId, TrackError] = {}
        self._cache: dict[ClipId, ClipCache] = {}

    def add(self, cache: ClipCache, refs: Refs) -> None:
        """Take these clips from ``cache`` from now on."""
        self.caches.append(refs)
        self.refs.update(refs)
        self.errors |= cache.errors
        self._cache |= dict.fromkeys(refs, cache)

    def clip(self, clip: ClipId) -> Clip:
        """Return a clip that decoded."""
        return self._cache[clip].clip(clip)


def open_clips(
    caches: Sequence[Refs],
    plan: WindowPlan,
    settings: TrainSettings,
    *,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: AbstractSet[ClipId] | None = None,
) -> ClipSet:
    """Return the clips, decoded where they are not in the cache that the settings name; see ``open_cache``."""
    clips = ClipSet(plan)
    for refs in caches:
        clips.add(_open(refs, plan, settings, num_threads, progress, again), refs)
    return clips


def add_missing(clips: ClipSet, refs: Refs, settings: TrainSettings, *, num_threads: int) -> None:
    """Decode those of ``refs`` that are not among ``clips``."""
    missing = {clip: ref for clip, ref in refs.items() if clip not in clips.refs}
    if missing:
        clips.add(_open(missing, clips.plan, settings, num_threads), missing)


def add_whole(clips: ClipSet, held_out: Iterable[ClipId], settings: TrainSettings, *, num_threads: int) -> None:
    """Have held-out clips scored whole, as ``tonearm evaluate`` scores them.

    Those with more windows than are kept to learn from are decoded once more; most collections have none.
    """
    plan, limit = clips.plan, settings.decode.max_scored_s
    most = max(1, int(limit * plan.sample_rate) // plan.window_samples)
    whole = dataclasses.replace(plan, max_windows=most)
    readable = set(held_out) - clips.errors.keys()
    lengths = {clip: clips.clip(clip).stream.num_samples for clip in clips.refs if clip in readable}
    long = [clip for clip, length in lengths.items() if len(whole.starts(length)) != len(plan.starts(length))]
    if long:
        refs = {clip: clips.refs[clip] for clip in long}
        clips.add(_open(refs, whole, settings, num_threads), refs)


def _open(
    refs: Refs,
    plan: WindowPlan,
    settings: TrainSettings,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: AbstractSet[ClipId] | None = None,
) -> ClipCache:
    base = Path(settings.cache) if settings.cache is not None else cache_folder() / "clips"
    return open_cache(
        base,
        refs,
        plan,
        fetch=settings.fetch,
        decode=settings.decode,
        num_threads=num_threads,
        progress=progress,
        again=again,
    )
