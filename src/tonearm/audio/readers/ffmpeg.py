"""Reading with FFmpeg, through PyAV: whatever it knows."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from tonearm.audio.readers.declared import EncodedFile, without_id3
from tonearm.audio.readers.packets import MOST_BYTES, Packets
from tonearm.audio.readers.pcm import Channels, FrameForm, joined, samples_of
from tonearm.audio.readers.source import Source, as_file, block_length
from tonearm.audio.readers.tags import AS_BYTES
from tonearm.errors import DecodeError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# Nothing but the bytes at hand: a playlist must not make the decoder open files or addresses it names.
OPTIONS = {"protocol_whitelist": "none"}
# Formats without a header of their own, which only a name tells.
NAMED = {
    **{"g722": "g722", "722": "g722", "sbc": "sbc", "msbc": "sbc", "g729": "g729", "gsm": "gsm"},
    **{"aptx": "aptx", "aptxhd": "aptx_hd", "g723_1": "g723_1", "tco": "g723_1", "rco": "g723_1"},
}
FLAC = b"fLaC"
# Behind an ID3 tag of a megabyte FFmpeg looks no further than its name; these tell what it is.
BEHIND_ID3 = {FLAC: "flac", b"TTA1": "tta", b"\xff\xf1": "aac", b"\xff\xf9": "aac"}
OF_ONE_SIZE = ("pcm_", "adpcm_")
# Bytes of audio that are announced where they were not known.
UNKNOWN_FROM = 0x7EFFFFFF
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
# A length that is still told where a part of the file is missing comes from its header.
PROBED_SHARE, SAME = 0.75, 0.001


@dataclasses.dataclass
class FFmpegSource(Source):
    """A file that FFmpeg reads."""

    data: bytes | memoryview = b""
    body: bytes | memoryview = b""
    name: str = ""
    # As it was opened, until it is first read: opening a short file again costs a tenth of decoding it.
    unread: Any = dataclasses.field(default=None, repr=False)

    @classmethod
    def open(cls, file: EncodedFile) -> FFmpegSource:
        """Return ``file`` opened.

        Raises:
            DecodeError: not_audio or no_audio.
        """
        data = file.data if file.is_wave else file.audio
        container = container_of(data, file.name)
        with contextlib.ExitStack() as stack:
            stack.callback(container.close)
            stream = audio_stream(container)
            context = stream.codec_context
            source = cls(
                codec=context.codec.canonical_name,
                sample_rate=context.sample_rate or 0,
                channels=context.channels,
                declared_s=_told(duration_of(container, stream), stream, len(data)),
                metadata={**stream.metadata, **container.metadata},
                data=data,
                body=file.body,
                name=file.name,
                unread=container,
            )
            stack.pop_all()
            return source

    def is_declared(self) -> bool:
        """Return whether the length is told even where the end of the file is missing."""
        if self.declared_s is None:
            return False
        # Of samples of one size an estimate is exact, and Ogg's last page says how much came before it.
        if self.codec.startswith(OF_ONE_SIZE) or bytes(self.data[:4]) == b"OggS":
            return True
        try:
            with container_of(self.body[: int(PROBED_SHARE * len(self.body))], self.name) as container:
                duration_s = duration_of(container, audio_stream(container))
        except DecodeError:
            return True  # what does not open without its end has its header there
        return duration_s is not None and abs(duration_s - self.declared_s) <= SAME * self.declared_s

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start."""
        self.num_errors, self.lost_s = 0, 0.0
        with self._opened() as container:
            gathered: list[Channels] = []
            form: FrameForm | None = None
            num_samples = 0
            for frame in self._frames(container, audio_stream(container)):
                samples, now = samples_of(frame)
                if form is not None and (now != form or num_samples >= block_length(form.sample_rate, form.channels)):
                    yield joined(gathered, form), form.sample_rate
                    gathered, num_samples = [], 0
                form = now
                gathered.append(samples)
                num_samples += frame.samples
                if not self.sample_rate or num_samples == frame.samples:
                    self.sample_rate, self.channels = self.sample_rate or now.sample_rate, self.channels or now.channels
            if form is not None:
                yield joined(gathered, form), form.sample_rate

    @contextlib.contextmanager
    def in_parts(self) -> Iterator[Packets | None]:
        """Give what reads parts, where the packets tell which samples they hold."""
        if len(self.data) > MOST_BYTES:
            yield None
            return
        with self._opened() as container:
            yield Packets.of(container, audio_stream(container))

    def _opened(self) -> InputContainer:
        container, self.unread = self.unread, None
        return container or container_of(self.data, self.name)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
        packets, maybe_lost_s = container.demux(stream), 0.0
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except MemoryError:
                raise
            except av.error.FFmpegError:
                self.num_errors += 1
                return
            try:
                for frame in packet.decode():
                    # Only what stands before more audio is known to have been audio: tags stand behind it.
                    self.lost_s, maybe_lost_s = self.lost_s + maybe_lost_s, 0.0
                    yield frame
            except av.error.EOFError:
                return
            except MemoryError:
                raise
            except av.error.FFmpegError:
                # As FFmpeg's own tools do: leave out the damaged packet, go on with the next.
                self.num_errors += 1
                maybe_lost_s += self._length_of(packet, stream)

    @staticmethod
    def _length_of(packet: av.Packet[AudioStream], stream: AudioStream) -> float:
        if packet.duration and packet.time_base:
            return float(packet.duration * packet.time_base)
        context = stream.codec_context
        return float((context.frame_size or 0) / (context.sample_rate or 1))


def duration_of(container: InputContainer, stream: AudioStream) -> float | None:
    """Return how long the stream is by what the file says or FFmpeg estimates, in seconds; None where neither does."""
    is_matroska = "matroska" in container.format.name
    if is_matroska and (match := _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds) or None
    # What the whole file is long a film may be, and not its sound; FFmpeg says it of every stream of Matroska.
    is_alone = len(container.streams) - len(container.streams.attachments) == 1
    if is_matroska and not is_alone:
        return None
    if stream.duration and stream.time_base:
        # Ogg's last page counts from the start of a broadcast, of which the file may be a part.
        start = max(0, stream.start_time or 0) if container.format.name == "ogg" else 0
        return max(0.0, float((stream.duration - start) * stream.time_base)) or None
    duration = container.duration or 0
    return float(duration / 1_000_000) if is_alone and duration > 0 else None


def _told(declared_s: float | None, stream: AudioStream, num_bytes: int) -> float | None:
    """Return a declared length, or None for what writers put who cannot go back to the header."""
    context = stream.codec_context
    if declared_s is None or not context.codec.canonical_name.startswith(OF_ONE_SIZE):
        return declared_s
    size, num_samples = declared_s * (context.bit_rate or 0) / 8, declared_s * (context.sample_rate or 0)
    return None if max(size, num_samples) >= UNKNOWN_FROM and size > 2 * num_bytes else declared_s


def format_of(name: str) -> str | None:
    """Return FFmpeg's name of the format that a file's name alone tells."""
    return NAMED.get(name.rpartition(".")[2].casefold())


def _told_by_first_bytes(data: bytes | memoryview) -> str | None:
    start = bytes(data[:4])
    if start == FLAC:
        return "flac"  # what FFmpeg finds too, after asking 300 others: a twentieth of the time that 5 s take
    if start[:3] != b"ID3":
        return None
    start = bytes(without_id3(data)[:4])
    return next((name for magic, name in BEHIND_ID3.items() if start.startswith(magic)), None)


def container_of(data: bytes | memoryview, name: str = "") -> InputContainer:
    """Return ``data`` opened.

    Raises:
        DecodeError: not_audio.
    """
    try:
        return av.open(
            as_file(data),
            "r",
            format=format_of(name) or _told_by_first_bytes(data),
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


def audio_stream(container: InputContainer) -> AudioStream:
    """Return the stream that is decoded.

    Raises:
        DecodeError: no_audio, or not_audio for a codec that FFmpeg does not know.
    """
    if not container.streams.audio:
        kinds = sorted({str(stream.type) for stream in container.streams}) or ["no streams"]
        raise DecodeError(f"got {', '.join(kinds)}, expected an audio stream", code="no_audio")
    best = container.streams.best("audio")
    stream = best if isinstance(best, av.AudioStream) else container.streams.audio[0]
    if stream.codec_context is None:
        raise DecodeError("the audio stream's codec is not one that FFmpeg knows", code="not_audio")
    return stream
