"""Reading with FFmpeg, through PyAV: whatever it knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from tonearm.audio.packets import MOST_BYTES, InDoubt, Packets, Wanted
from tonearm.audio.pcm import joined
from tonearm.audio.source import Source, as_file, block_length
from tonearm.audio.tags import AS_BYTES
from tonearm.errors import DecodeError

# Nothing but the bytes at hand: a playlist must not make the decoder open files or addresses it names.
OPTIONS = {"protocol_whitelist": "none"}
# Formats without a header of their own, which only a name tells.
NAMED = {"g722": "g722", "722": "g722", "sbc": "sbc", "msbc": "sbc"}
# A length that is still told where a part of the file is missing comes from its header.
PROBED_SHARE, SAME = 0.75, 0.001


@dataclasses.dataclass
class FFmpegSource(Source):
    """A file that FFmpeg reads."""

    data: bytes | memoryview = b""
    name: str = ""

    @classmethod
    def open(cls, data: bytes | memoryview, name: str = "") -> FFmpegSource:
        """Return ``data`` opened.

        Raises:
            DecodeError: not_audio or no_audio.
        """
        with container_of(data, name) as container:
            stream = audio_stream(container)
            context = stream.codec_context
            return cls(
                codec=context.codec.canonical_name,
                sample_rate=context.sample_rate or 0,
                channels=context.channels,
                declared_s=_duration_s(container, stream),
                metadata={**stream.metadata, **container.metadata},
                data=data,
                name=name,
            )

    def is_declared(self) -> bool:
        """Return whether the length is told even where the end of the file is missing."""
        if self.declared_s is None:
            return False
        # Of samples of one size an estimate is exact, and Ogg's last page says how much came before it.
        if self.codec.startswith(("pcm_", "adpcm_")) or bytes(self.data[:4]) == b"OggS":
            return True
        try:
            with container_of(self.data[: int(PROBED_SHARE * len(self.data))], self.name) as container:
                found = _duration_s(container, audio_stream(container))
        except DecodeError:
            return True  # what does not open without its end has its header there
        return found is not None and abs(found - self.declared_s) <= SAME * self.declared_s

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start."""
        self.num_errors, self.lost_s = 0, 0.0
        with container_of(self.data, self.name) as container:
            gathered: list[NDArray[Any]] = []
            shape: tuple[int, int, str] | None = None
            num_samples = 0
            for frame in self._frames(container, audio_stream(container)):
                now = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
                if gathered and shape is not None and (now != shape or num_samples >= block_length(*shape[:2])):
                    yield joined(gathered, shape), shape[0]
                    gathered, num_samples = [], 0
                shape = now
                gathered.append(frame.to_ndarray())
                num_samples += frame.samples
                if not self.sample_rate or num_samples == frame.samples:
                    self.sample_rate, self.channels = self.sample_rate or now[0], self.channels or now[1]
            if gathered and shape is not None:
                yield joined(gathered, shape), shape[0]

    def ranges(self, wanted: Wanted) -> tuple[int, list[NDArray[np.float32]]] | None:
        """Return parts where the packets tell which samples they hold."""
        if len(self.data) > MOST_BYTES:
            return None
        try:
            with container_of(self.data, self.name) as container:
                return Packets(audio_stream(container)).ranges(wanted)
        except MemoryError:
            raise
        except (av.error.FFmpegError, InDoubt):
            return None

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except MemoryError:
                raise
            except av.error.FFmpegError:
                self.num_errors += 1
                return
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except MemoryError:
                raise
            except av.error.FFmpegError:
                # As FFmpeg's own tools do: leave out the damaged packet, go on with the next.
                self.num_errors += 1
                self.lost_s += self._length_of(packet, stream)

    @staticmethod
    def _length_of(packet: Any, stream: Any) -> float:
        if packet.duration and packet.time_base:
            return float(packet.duration * packet.time_base)
        context = stream.codec_context
        return float((context.frame_size or 0) / (context.sample_rate or 1))


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration / 1_000_000) if container.duration and container.duration > 0 else None


def container_of(data: bytes | memoryview, name: str = "") -> Any:
    """Return ``data`` opened.

    Raises:
        DecodeError: not_audio.
    """
    extension = name.rpartition(".")[2].casefold()
    try:
        return av.open(
            as_file(data),
            format=NAMED.get(extension),
            metadata_encoding=AS_BYTES,
            options=dict(OPTIONS),
            buffer_size=2**20,
        )
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise DecodeError(
            f"not a file that FFmpeg can read ({error.strerror}); starts with {bytes(data[:12])!r}", code="not_audio"
        ) from None


def audio_stream(container: Any) -> Any:
    """Return the stream that is decoded.

    Raises:
        DecodeError: no_audio, or not_audio for a codec that FFmpeg does not know.
    """
    if not container.streams.audio:
        kinds = sorted({stream.type for stream in container.streams}) or ["no streams"]
        raise DecodeError(f"got {', '.join(kinds)}, expected an audio stream", code="no_audio")
    stream = container.streams.best("audio") or container.streams.audio[0]
    if stream.codec_context is None:
        raise DecodeError("the audio stream's codec is not one that FFmpeg knows", code="not_audio")
    return stream
