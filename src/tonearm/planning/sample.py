"""List all tracks of the sources, and read the headers of a random sample of them."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.readers.container import AudioInfo
from tonearm.audio.readers.headers import HEAD_BYTES, TAIL_BYTES
from tonearm.errors import TrackError
from tonearm.sources.extensions import extension_of
from tonearm.sources.listing import ListingCounts, TrackRef, list_tracks
from tonearm.sources.reader import Ends, ObjectReader

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import TagSettings

# 1000 headers give the hours within a few percent, unless a few tracks are very much longer than the rest.
NUM_HEADERS = 1000
# Reading headers stops after this time, whatever the store's speed.
PROBE_S = 60.0
READERS = 16


@dataclasses.dataclass(frozen=True)
class Listed:
    """The totals of a listing, and a sample of it.

    Attributes:
        num_done: tracks that the destination has already; they are not counted in any other field.
        by_extension: number of tracks and of bytes for each file extension.
        sample: up to ``NUM_HEADERS`` tracks, chosen at random and in random order.
    """

    num_tracks: int
    num_bytes: int
    num_done: int
    skipped: dict[str, int]
    by_extension: dict[str, tuple[int, int]]
    sample: tuple[TrackRef, ...]


@dataclasses.dataclass(frozen=True)
class SampledTrack:
    """A sampled track with its ``AudioInfo``, or with the code of the error that reading it gave."""

    ref: TrackRef
    info: AudioInfo | None
    error_code: str | None = None


def list_sample(
    sources: Sequence[str],
    *,
    limit: int | None,
    done: NDArray[np.int64],
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Listed:
    """List ``sources`` and choose the sample.

    Args:
        done: keys of the tracks that the destination has already, sorted.
        seed: of the random choice, so that the same plan twice reads the same tracks.

    Raises:
        SourceError: as ``list_tracks``.
    """
    counts, random_order = ListingCounts(), random.Random(seed)
    done_keys = set(done.tolist())
    num_done = num_left = 0
    by_extension: dict[str, list[int]] = {}
    sample: list[TrackRef] = []
    for ref in list_tracks(sources, limit=limit, counts=counts):
        if progress is not None and counts.num_tracks % 10_000 == 0:
            progress(counts.num_tracks)
        if ref.track_key in done_keys:
            num_done += 1
            continue
        num_left += 1
        entry = by_extension.setdefault(extension_of(ref.uri), [0, 0])
        entry[0] += 1
        entry[1] += ref.size_bytes or 0
        # Reservoir sampling (algorithm R): every track has the same chance, and only the sample is kept in memory.
        if len(sample) < NUM_HEADERS:
            sample.append(ref)
        elif (place := random_order.randrange(num_left)) < NUM_HEADERS:
            sample[place] = ref
    random_order.shuffle(sample)
    num_bytes = sum(entry[1] for entry in by_extension.values())
    totals = {extension: (entry[0], entry[1]) for extension, entry in by_extension.items()}
    return Listed(num_left, num_bytes, num_done, dict(counts.skipped.most_common()), totals, tuple(sample))


def probe(listed: Listed, settings: TagSettings, sandbox: DecodeSandbox) -> list[SampledTrack]:
    """Read the headers of the sample, for ``PROBE_S`` at most; read a file whole if its ends do not say enough."""
    reader = ObjectReader(settings.fetch)

    def read_ends(ref: TrackRef) -> Ends | TrackError | None:
        try:
            return reader.read_ends(ref, HEAD_BYTES, TAIL_BYTES)
        except TrackError as error:
            return error

    probed = []
    deadline_s = time.monotonic() + PROBE_S
    # Reads overlap on threads; describing is done here, one at a time, as the sandbox has one child process.
    with ThreadPoolExecutor(READERS, thread_name_prefix="header") as pool:
        for first in range(0, len(listed.sample), 4 * READERS):
            refs = listed.sample[first : first + 4 * READERS]
            probed += [
                _probe_track(ref, file_ends, reader, sandbox)
                for ref, file_ends in zip(refs, pool.map(read_ends, refs), strict=True)
            ]
            if time.monotonic() > deadline_s:
                break  # the sample is in random order, so its first part is a random sample too
    return probed


def _probe_track(
    ref: TrackRef, file_ends: Ends | TrackError | None, reader: ObjectReader, sandbox: DecodeSandbox
) -> SampledTrack:
    if isinstance(file_ends, TrackError):
        return SampledTrack(ref, None, file_ends.code)
    try:
        if file_ends is not None:
            try:
                return SampledTrack(ref, sandbox.describe(file_ends.head, file_ends.tail, ref.size_bytes or 0, ref.uri))
            except TrackError:
                pass  # headers of some files say too little; decide by the whole file below
        data = reader.read(ref)
        try:
            return SampledTrack(ref, sandbox.describe(data, b"", len(data), ref.uri))
        except TrackError as error:
            return SampledTrack(ref, None, "empty_file" if not data else error.code)
    except TrackError as error:
        return SampledTrack(ref, None, error.code)


def failing_examples(tracks: Iterable[SampledTrack]) -> Iterator[tuple[str, str]]:
    """Yield the error code and URI of one sampled track per error code."""
    codes: set[str] = set()
    for track in tracks:
        if track.error_code is not None and track.error_code not in codes:
            codes.add(track.error_code)
            yield track.error_code, track.ref.uri
