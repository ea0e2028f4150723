"""Cache decoded clips on disk, so that audio is decoded once and not in every epoch; shards are memory-mapped.

::

    FOLDER/KEY/00000.pcm    the samples of up to 256 clips, one after the other
    FOLDER/KEY/00000.json   the position of each clip in it, written last: a shard without it is decoded again; clips
                            that could not be read are tried again when the cache is opened

KEY is a hash of the tracks' keys, in order, and of the windows. A ``ClipSet`` joins caches: one with windows spread
over each clip for training, and one with held-out clips in full.
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

# A shard is what is decoded again after a crash, and what the space for the whole cache is estimated from.
TRACKS_PER_SHARD = 256
FORMAT = 2
# Free space to leave on the disk.
FREE_BYTES = 512 * 2**20

T = TypeVar("T")
Refs: TypeAlias = Mapping[ClipId, TrackRef]


@dataclasses.dataclass(frozen=True)
class Clip:
    """One cached clip.

    Attributes:
        stream: its samples, a view of the memory-mapped file.
        digest: SHA-256 of the cached samples.
        plan: the windows that the cached samples cover.
    """

    stream: PcmStream
    duration_s: float
    digest: str
    plan: WindowPlan

    def beginning(self, num_samples: int) -> NDArray[np.float32]:
        """Return float32 [<= num_samples], the first of the cached samples."""
        return dequantize(self.stream.pcm[:num_samples], self.stream.scale)

    def windows(self) -> list[tuple[float, NDArray[np.float32]]]:
        """Return the cached ones of the windows that tagging scores, as ``(start in seconds, float32 [samples])``."""
        plan, stream = self.plan, self.stream
        starts = [int(start) for start in plan.starts(stream.num_samples)]
        stored_starts = [start for start in starts if stream.keeps(start, plan.window_samples)]
        return [(start / plan.sample_rate, stream.window(start, plan.window_samples)) for start in stored_starts]


class ClipCache:
    """The decoded clips of one folder, by their ids; ``errors`` has the errors of those that could not be decoded."""

    def __init__(self, folder: Path, plan: WindowPlan, ids: Iterable[ClipId]) -> None:
        self.folder, self.plan = folder, plan
        self.errors: dict[ClipId, TrackError] = {}
        self._entries: dict[ClipId, tuple[int, dict[str, Any]]] = {}
        self._maps: dict[int, NDArray[np.uint8]] = {}
        # The order of the ids is part of the folder's name, so it tells each clip's place in its shard.
        for shard, clips in enumerate(_shards(list(ids))):
            entries = json.loads(_index_path(folder, shard).read_text())["tracks"]
            for clip, entry in zip(clips, entries, strict=True):
                if "error" in entry:
                    self.errors[clip] = TrackError(entry["error"]["message"], code=entry["error"]["code"])
                self._entries[clip] = (shard, entry)

    def clip(self, clip: ClipId) -> Clip:
        """Return a clip, which must not be one of ``errors``."""
        shard, entry = self._entries[clip]
        if shard not in self._maps:
            self._maps[shard] = np.memmap(_samples_path(self.folder, shard), np.uint8, "r")
        offset, dtype = entry["offset"], np.dtype(entry["dtype"])
        num_samples = sum(stop - start for start, stop in entry["spans"])
        pcm = self._maps[shard][offset : offset + num_samples * dtype.itemsize].view(dtype)
        # An index of 0.1.0 has no rate per clip: all have the rate of the cache's windows.
        stream = PcmStream.of({"sample_rate": self.plan.sample_rate, **entry}, pcm)
        return Clip(stream, entry["duration_s"], entry["digest"], self.plan)


def _shards(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[first : first + TRACKS_PER_SHARD] for first in range(0, len(items), TRACKS_PER_SHARD)]


def open_cache(
    base: Path,
    refs: Mapping[ClipId, TrackRef],
    plan: WindowPlan,
    *,
    fetch: FetchSettings,
    decode: DecodeSettings,
    num_threads: int,
    progress: Callable[[int, int], None] = lambda num_done, num_clips: None,
    again: Collection[ClipId] | None = None,
) -> ClipCache:
    """Return the cache of these clips, after decoding those that are not in it yet.

    Clips that failed before are tried again: the store may work now, the file may be repaired, or more memory allowed.
    Several processes may call this at once: one decodes, the others wait.

    Args:
        refs: the location of each clip; their order is part of the cache's key.
        progress: told how many of how many clips are decoded.
        again: clips that are tried again if they failed; all if None.

    Raises:
        DestinationError: there is no space left, or the folder cannot be written.
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
                if not _index_path(folder, shard).is_file():
                    tracks = decoder.decode([refs[clip] for clip in clips])
                    _write_shard(folder, shard, tracks, lambda num, first=first: progress(first + num, len(refs)))  # type: ignore[misc]
                    _check_space(folder, shard, len(shards))
                    continue
                failed = [place for place in _failed_entries(folder, shard) if again is None or clips[place] in again]
                if failed:
                    tracks = decoder.decode([refs[clips[place]] for place in failed])
                    _mend_shard(folder, shard, dict(zip(failed, tracks, strict=True)))
                progress(first + len(clips), len(refs))
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
        """Yield the samples or the error of each track, in order."""
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
    with _samples_path(folder, shard).open("wb") as file:
        for track in tracks:
            entries.append(_write_track(file, track))
            progress(len(entries))
    # The index last: a shard without one was not finished, and is decoded again.
    _write_index(folder, shard, entries)


def _mend_shard(folder: Path, shard: int, tracks: Mapping[int, DecodedTrack | TrackError]) -> None:
    """Replace error entries by these tracks; their samples are appended to the shard."""
    entries = json.loads(_index_path(folder, shard).read_text())["tracks"]
    with _samples_path(folder, shard).open("ab") as file:
        for number, track in tracks.items():
            entries[number] = _write_track(file, track)
    _write_index(folder, shard, entries)


def _failed_entries(folder: Path, shard: int) -> list[int]:
    entries = json.loads(_index_path(folder, shard).read_text())["tracks"]
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
    with replacing(_index_path(folder, shard)) as partial:
        partial.write_text(json.dumps({"tracks": entries}))


def _check_space(folder: Path, shard: int, num_shards: int) -> None:
    """Refuse a disk that is too small.

    Raises:
        DestinationError: the decoded clips will not fit.
    """
    # The first shard tells how large the others will be, so the error comes now and not after hours of decoding.
    if shard:
        return
    shard_bytes, free_bytes = _samples_path(folder, shard).stat().st_size, shutil.disk_usage(folder).free
    if shard_bytes * (num_shards - 1) + FREE_BYTES > free_bytes:
        raise DestinationError(
            f"the decoded clips need some {shard_bytes * num_shards / 2**30:.1f} GiB and {folder} has "
            f"{free_bytes / 2**30:.1f} GiB free; free some or name a folder on another disk with cache = ..."
        )


def _samples_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.pcm"


def _index_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.json"


class ClipSet:
    """Decoded clips by their ids, from one or several caches; for a clip in several, the last one counts.

    Attributes:
        caches: for each cache its clips and their locations, in order: from these, a worker finds the same cache.
        errors: the errors of clips that could not be decoded.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.caches: list[Refs] = []
        self.refs: dict[ClipId, TrackRef] = {}
        self.errors: dict[ClipId, TrackError] = {}
        self._cache: dict[ClipId, ClipCache] = {}

    def add(self, cache: ClipCache, refs: Refs) -> None:
        """Add a cache; from now on these clips are read from it."""
        self.caches.append(refs)
        self.refs.update(refs)
        self.errors |= cache.errors
        self._cache |= dict.fromkeys(refs, cache)

    def clip(self, clip: ClipId) -> Clip:
        """Return a clip, which must not be one of ``errors``."""
        return self._cache[clip].clip(clip)


def open_clips(
    caches: Sequence[Refs],
    plan: WindowPlan,
    settings: TrainSettings,
    *,
    num_threads: int,
    progress: Callable[[int, int], None] = lambda num_done, num_clips: None,
    again: AbstractSet[ClipId] | None = None,
) -> ClipSet:
    """Return the clips of several caches, in the folder that the settings name; see ``open_cache``."""
    clips = ClipSet(plan)
    for refs in caches:
        clips.add(_open_clip_cache(refs, plan, settings, num_threads, progress, again), refs)
    return clips


def add_missing(clips: ClipSet, refs: Refs, settings: TrainSettings, *, num_threads: int) -> None:
    """Add a cache with those of ``refs`` that are not in ``clips`` yet."""
    missing = {clip: ref for clip, ref in refs.items() if clip not in clips.refs}
    if missing:
        clips.add(_open_clip_cache(missing, clips.plan, settings, num_threads), missing)


def add_whole(clips: ClipSet, held_out: Iterable[ClipId], settings: TrainSettings, *, num_threads: int) -> None:
    """Add held-out clips in full, so that all their windows are scored, as ``tonearm evaluate`` does.

    Only clips with more windows than training keeps are decoded once more; most collections have none.
    """
    plan, max_scored_s = clips.plan, settings.decode.max_scored_s
    max_windows = max(1, int(max_scored_s * plan.sample_rate) // plan.window_samples)
    whole_plan = dataclasses.replace(plan, max_windows=max_windows)
    readable = set(held_out) - clips.errors.keys()
    lengths = {clip: clips.clip(clip).stream.num_samples for clip in clips.refs if clip in readable}
    long_clips = [
        clip for clip, length in lengths.items() if len(whole_plan.starts(length)) != len(plan.starts(length))
    ]
    if long_clips:
        refs = {clip: clips.refs[clip] for clip in long_clips}
        clips.add(_open_clip_cache(refs, whole_plan, settings, num_threads), refs)


def _open_clip_cache(
    refs: Refs,
    plan: WindowPlan,
    settings: TrainSettings,
    num_threads: int,
    progress: Callable[[int, int], None] = lambda num_done, num_clips: None,
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
