"""Everything is listed; of a seeded random sample the headers are read."""

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
from tonearm.sources.reader import ObjectReader

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import TagSettings

# So many headers tell the hours to a few percent, unless a few tracks are very much longer than the rest.
NUM_HEADERS = 1000
LOOK_S = 60.0
READERS = 16


@dataclasses.dataclass(frozen=True)
class Listed:
    """What the sources hold.

    Attributes:
        num_done: tracks that the destination has already; they are left out of everything else.
        by_extension: tracks and bytes for each.
        sample: tracks to look at, a random choice of all.
    """

    num_tracks: int
    num_bytes: int
    num_done: int
    skipped: dict[str, int]
    by_extension: dict[str, tuple[int, int]]
    sample: tuple[TrackRef, ...]


@dataclasses.dataclass(frozen=True)
class SampledTrack:
    """What a sampled track turned out to be: an ``AudioInfo`` or the code of its error."""

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
        done: keys that the destination holds, sorted.

    Raises:
        SourceError: as ``list_tracks``.
    """
    counts, choice = ListingCounts(), random.Random(seed)
    held = set(done.tolist())
    num_done = num_left = 0
    by_extension: dict[str, list[int]] = {}
    sample: list[TrackRef] = []
    for ref in list_tracks(sources, limit=limit, counts=counts):
        if progress is not None and counts.num_tracks % 10_000 == 0:
            progress(counts.num_tracks)
        if ref.track_key in held:
            num_done += 1
            continue
        num_left += 1
        entry = by_extension.setdefault(extension_of(ref.uri), [0, 0])
        entry[0] += 1
        entry[1] += ref.size_bytes or 0
        if len(sample) < NUM_HEADERS:
            sample.append(ref)
        elif (place := choice.randrange(num_left)) < NUM_HEADERS:
            sample[place] = ref
    choice.shuffle(sample)
    num_bytes = sum(entry[1] for entry in by_extension.values())
    pairs = {extension: (entry[0], entry[1]) for extension, entry in by_extension.items()}
    return Listed(num_left, num_bytes, num_done, dict(counts.skipped.most_common()), pairs, tuple(sample))


def look(listed: Listed, settings: TagSettings, sandbox: DecodeSandbox) -> list[SampledTrack]:
    """Read the headers of the sample; a file whose ends tell nothing is read whole. Takes ``LOOK_S`` at most."""
    reader = ObjectReader(settings.fetch)

    def ends(ref: TrackRef) -> tuple[bytes, bytes] | TrackError | None:
        try:
            return reader.read_ends(ref, HEAD_BYTES, TAIL_BYTES)
        except TrackError as error:
            return error

    looks = []
    ends_s = time.monotonic() + LOOK_S
    with ThreadPoolExecutor(READERS, thread_name_prefix="header") as pool:
        for first in range(0, len(listed.sample), 4 * READERS):
            refs = listed.sample[first : first + 4 * READERS]
            looks += [_look(ref, found, reader, sandbox) for ref, found in zip(refs, pool.map(ends, refs), strict=True)]
            if time.monotonic() > ends_s:
                break  # the sample is in random order: its first part is a sample too
    return looks


def _look(
    ref: TrackRef, found: tuple[bytes, bytes] | TrackError | None, reader: ObjectReader, sandbox: DecodeSandbox
) -> SampledTrack:
    if isinstance(found, TrackError):
        return SampledTrack(ref, None, found.code)
    try:
        if found is not None:
            try:
                return SampledTrack(ref, sandbox.describe(*found, ref.size_bytes or 0, ref.uri))
            except TrackError:
                pass  # the whole file has the last word
        data = reader.read(ref)
        try:
            return SampledTrack(ref, sandbox.describe(data, b"", len(data), ref.uri))
        except TrackError as error:
            return SampledTrack(ref, None, "empty_file" if not data else error.code)
    except TrackError as error:
        return SampledTrack(ref, None, error.code)


def examples(looks: Iterable[SampledTrack]) -> Iterator[tuple[str, str]]:
    """Yield code and URI of the sampled tracks that will fail, one a code."""
    seen: set[str] = set()
    for each in looks:
        if each.error_code is not None and each.error_code not in seen:
            seen.add(each.error_code)
            yield each.error_code, each.ref.uri
