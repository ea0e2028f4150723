"""Opening encoded audio in memory and reading it as blocks of mono float32 at its own rate.

FFmpeg (through PyAV) reads everything; libsndfile reads plain WAV, which it does several times faster.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import Any

import av
import av.error
import numpy as np
import soundfile
from numpy.typing import NDArray

from tonearm.audio.packets import MOST_BYTES, InDoubt, Packets, Wanted
from tonearm.audio.pcm import joined, mix
from tonearm.audio.tags import AS_BYTES
from tonearm.errors import DecodeError

# Seconds of audio that one block holds: long enough that work per block, not per codec frame, counts.
BLOCK_S = 4.0

# Nothing but the bytes at hand: a playlist must not make the decoder open files or addresses it names.
OPTIONS = {"protocol_whitelist": "none"}

# Containers whose header counts samples, so that a shorter decode means a truncated file.
EXACT_FORMATS = {"flac", "wav", "aiff", "w64", "tta", "wv"}

PCM_CODECS = {
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16le",
    "PCM_24": "pcm_s24le",
    "PCM_32": "pcm_s32le",
    "FLOAT": "pcm_f32le",
    "DOUBLE": "pcm_f64le",
}


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself, and how long it truly is."""

    duration_s: float
    sample_rate: int
    channels: int
    codec: str
    title: str | None = None
    artist: str | None = None
    album: str | None = None


@dataclasses.dataclass
class Source:
    """An opened file.

    ``blocks`` yields ``(mono float32 [samples], sample_rate)``; ``num_errors`` counts what it had to leave out so far;
    ``metadata`` holds every byte as a character, see ``tags.decoded``.
    """

    codec: str
    sample_rate: int
    channels: int
    declared_s: float | None
    is_exact: bool
    metadata: Mapping[str, str]
    num_errors: int = 0

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start; each call starts anew."""
        raise TypeError("open_source returns a Source that knows how to read")

    def ranges(self, wanted: Wanted) -> tuple[int, list[NDArray[np.float32]]] | None:
        """Return the exact length in samples, and the parts that ``wanted`` asks for once it is told that length.

        None where anything about the file leaves doubt that the parts are those of the whole: then read the whole.
        """
        return None


def open_source(data: bytes | memoryview) -> Source:
    """Return ``data`` opened by the fastest reader that knows it.

    Raises:
        DecodeError: empty_file, not_audio or no_audio.
    """
    if not len(data):
        raise DecodeError("got a file of 0 bytes, expected encoded audio", code="empty_file")
    if bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WAVE":
        try:
            return _WavSource.open(data)
        except soundfile.LibsndfileError:
            pass  # FFmpeg knows the codecs and the damage that libsndfile refuses
    return _FFmpegSource.open(data)


@dataclasses.dataclass
class _WavSource(Source):
    data: bytes | memoryview = b""

    @classmethod
    def open(cls, data: bytes | memoryview) -> Source:
        with _file(data) as encoded, soundfile.SoundFile(encoded) as file:
            if file.subtype not in PCM_CODECS or not file.frames:
                return _FFmpegSource.open(data)
            return cls(
                codec=PCM_CODECS[file.subtype],
                sample_rate=file.samplerate,
                channels=file.channels,
                declared_s=file.frames / file.samplerate,
                is_exact=True,
                metadata=_wav_metadata(data),
                data=data,
            )

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        with _file(self.data) as encoded, soundfile.SoundFile(encoded) as file:
            size = int(BLOCK_S * file.samplerate)
            # As it is stored, where that is the cheapest to read.
            kind = "int16" if file.subtype == "PCM_16" else "float32"
            while len(block := file.read(size, dtype=kind, always_2d=True)):
                yield mix(block.T), file.samplerate

    def ranges(self, wanted: Wanted) -> tuple[int, list[NDArray[np.float32]]] | None:
        with _file(self.data) as encoded, soundfile.SoundFile(encoded) as file:
            parts = []
            for start, stop in wanted(file.frames):
                file.seek(start)
                block = file.read(stop - start, dtype="float32", always_2d=True)
                if len(block) != stop - start:
                    return None
                parts.append(mix(block.T))
            return file.frames, parts


@dataclasses.dataclass
class _FFmpegSource(Source):
    data: bytes | memoryview = b""

    @classmethod
    def open(cls, data: bytes | memoryview) -> Source:
        with _container(data) as container:
            stream = audio_stream(container)
            context = stream.codec_context
            declared_s = None
            if stream.duration and stream.time_base:
                declared_s = float(stream.duration * stream.time_base)
            elif container.duration and container.duration > 0:
                declared_s = container.duration / 1_000_000
            return cls(
                codec=context.codec.canonical_name,
                sample_rate=context.sample_rate or 0,
                channels=context.channels,
                declared_s=declared_s,
                is_exact=bool(EXACT_FORMATS & set(container.format.name.split(","))),
                metadata={**stream.metadata, **container.metadata},
                data=data,
            )

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        self.num_errors = 0
        with _container(self.data) as container:
            gathered: list[NDArray[Any]] = []
            shape: tuple[int, int, str] | None = None
            num_samples = 0
            for frame in self._frames(container, audio_stream(container)):
                now = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
                if gathered and shape is not None and (now != shape or num_samples >= BLOCK_S * shape[0]):
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
        if len(self.data) > MOST_BYTES:
            return None
        try:
            with _container(self.data) as container:
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


class _View(io.RawIOBase):
    """A buffer as a file, without the copy that ``BytesIO`` makes of what is not ``bytes``."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, target: Any, /) -> int:
        part = self._data[self._position : self._position + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

    def read(self, size: int | None = -1, /) -> bytes:
        stop = len(self._data) if size is None or size < 0 else self._position + size
        part = bytes(self._data[self._position : stop])
        self._position += len(part)
        return part


def _file(data: bytes | memoryview) -> io.BytesIO | _View:
    return io.BytesIO(data) if isinstance(data, bytes) else _View(data)


def _wav_metadata(data: bytes | memoryview) -> Mapping[str, str]:
    """Return what a WAV's INFO and ID3 chunks say, as FFmpeg reads them; libsndfile knows only the first."""
    if not any(kind in (b"LIST", b"id3 ", b"ID3 ") for kind in _chunks(data)):
        return {}
    try:
        with _container(data) as container:
            return dict(container.metadata)
    except DecodeError:
        return {}


def _chunks(data: bytes | memoryview) -> Iterator[bytes]:
    start = 12
    while start + 8 <= len(data):
        yield bytes(data[start : start + 4])
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        start += 8 + size + size % 2


def _container(data: bytes | memoryview) -> Any:
    try:
        return av.open(_file(data), metadata_encoding=AS_BYTES, options=dict(OPTIONS), buffer_size=2**20)
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
