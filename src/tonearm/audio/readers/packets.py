"""A stream decoded in parts: all packets are read, which costs little, and only those that a part needs are decoded."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import av.error
import numpy as np
from numpy.typing import NDArray

from tonearm.audio.readers.pcm import joined, samples_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# Whose parts are those of the whole. Not Vorbis, whose packets do not tell their times where blocks change size, nor
# AAC, whose noise comes from a generator that runs from the start.
CODECS = {"flac", "alac", "mp3", "mp2", "opus"}

# What is decoded and thrown away before a part: codecs build on what came before (MP3's reservoir, Opus's predictors).
PREROLL_S, PREROLL_PACKETS = 0.5, 12
# Packets are all held at once to be read in parts.
MOST_BYTES = 256 * 2**20


class _Placed(NamedTuple):
    """Decoded samples and where they start, in samples of the stream's own times."""

    start: int
    samples: NDArray[np.float32]

    @property
    def stop(self) -> int:
        return self.start + len(self.samples)


class InDoubt(Exception):
    """A stream that had better be decoded as a whole."""


class Packets:
    """All packets of a stream, to be decoded in parts; positions are in samples after the first that is decoded."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self.codec = stream.codec_context
        self.rate = self.codec.sample_rate
        name = self.codec.codec.canonical_name
        if name not in CODECS and not name.startswith("pcm_"):
            raise InDoubt
        time_base = stream.time_base
        if not self.rate or not time_base or time_base.denominator % self.rate:
            raise InDoubt  # times that do not tell the sample
        self.time_base = time_base
        self.packets = [packet for packet in container.demux(stream) if packet.size]
        times = [packet.pts for packet in self.packets if packet.pts is not None and not packet.is_corrupt]
        if not times or len(times) < len(self.packets):
            raise InDoubt
        self.positions = np.array([self._sample(pts) for pts in times])
        if (np.diff(self.positions) <= 0).any():
            raise InDoubt
        self.first = self._decoded(0, 2)[0].start
        last = self._decoded(self._before(int(self.positions[-1])), len(self.packets))[-1]
        self.num_samples = last.stop - self.first

    @classmethod
    def of(cls, container: InputContainer, stream: AudioStream) -> Packets | None:
        """Return the packets of a stream, or None where its parts may not be those of the whole."""
        try:
            return cls(container, stream)
        except MemoryError:
            raise
        except (av.error.FFmpegError, InDoubt):
            return None

    def read(self, spans: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]] | None:
        """Return each ``[start, stop)``, or None where the parts may not be those of the whole."""
        try:
            return [self._range(start, stop) for start, stop in spans]
        except MemoryError:
            raise
        except (av.error.FFmpegError, InDoubt):
            return None

    def _range(self, start: int, stop: int) -> NDArray[np.float32]:
        begin, end = start + self.first, stop + self.first
        until = int(np.searchsorted(self.positions, end)) + 1
        frames = self._decoded(self._before(begin), until)
        if frames[0].start > begin or frames[-1].stop < end:
            raise InDoubt
        return np.concatenate(
            [frame.samples[max(0, begin - frame.start) : max(0, end - frame.start)] for frame in frames]
        )

    def _before(self, sample: int) -> int:
        """Return the packet from which to decode so that all is settled at ``sample``."""
        early = int(np.searchsorted(self.positions, sample - int(PREROLL_S * self.rate), side="right")) - 1
        exact = int(np.searchsorted(self.positions, sample, side="right")) - 1
        return max(0, min(early, exact - PREROLL_PACKETS))

    def _decoded(self, begin: int, end: int) -> list[_Placed]:
        """Return what the packets hold, without a gap."""
        self.codec.flush_buffers()
        frames: list[_Placed] = []
        for number in range(begin, min(end, len(self.packets))):
            try:
                decoded = self.packets[number].decode()
            except av.error.FFmpegError:
                if number - begin < PREROLL_PACKETS and begin:
                    frames.clear()  # what it builds on was before
                    continue
                raise
            frames += map(self._placed, decoded)
        if end >= len(self.packets):
            frames += map(self._placed, self.codec.decode(None))
        if not frames or any(frame.stop != after.start for frame, after in itertools.pairwise(frames)):
            raise InDoubt
        return frames

    def _placed(self, frame: av.AudioFrame) -> _Placed:
        if frame.pts is None or frame.sample_rate != self.rate:
            raise InDoubt
        read = samples_of(frame)
        return _Placed(self._sample(frame.pts), joined([read.samples], read.form))

    def _sample(self, pts: int) -> int:
        return round(pts * self.time_base * self.rate)
