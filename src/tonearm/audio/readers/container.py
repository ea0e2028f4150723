"""Opening encoded audio in memory with the reader that knows it best.

FFmpeg (through PyAV) reads everything; libsndfile reads plain WAV, which it does several times faster, and the few
kinds of file that FFmpeg reads otherwise or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from tonearm.audio.readers import ogg, tags
from tonearm.audio.readers.declared import TAG_CHUNKS, EncodedFile, shown_share
from tonearm.audio.readers.ffmpeg import FFmpegSource, container_of
from tonearm.audio.readers.sndfile import SndfileSource
from tonearm.audio.readers.source import Source as Source
from tonearm.errors import DecodeError


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


def open_source(data: bytes | memoryview, name: str = "") -> Source:
    """Return ``data`` opened by the reader that knows it best.

    Args:
        name: of the file, for the few formats that nothing else tells.

    Raises:
        DecodeError: empty_file, not_audio or no_audio.
    """
    if not len(data):
        raise DecodeError("got a file of 0 bytes, expected encoded audio", code="empty_file")
    file = EncodedFile.of(data, name)
    source = _opened(file)
    source.shown_share = shown_share(file.audio)
    source.says_latin_1 = tags.says_latin_1(file.id3)
    return source


def _opened(file: EncodedFile) -> Source:
    source = SndfileSource.better(file.audio, _wave_metadata(file))
    if source is not None:
        return source
    if len(starts := ogg.links(file.audio)) > 1:
        return ogg.ChainedSource.of(file.audio, starts)
    try:
        return FFmpegSource.open(file)
    except DecodeError as error:
        other = SndfileSource.alone(file.audio) if error.code == "not_audio" else None
        if other is None:
            raise
        return other


def _wave_metadata(file: EncodedFile) -> Mapping[str, str]:
    """Return what a WAV's INFO and ID3 chunks say, as FFmpeg reads them; libsndfile knows only the first."""
    if not file.is_wave:
        return {}
    audio = file.audio
    described = [
        bytes(audio[start - 8 : start + size + size % 2])
        for kind, start, size in file.chunks
        if kind in (b"fmt ", *TAG_CHUNKS)
    ]
    tag = bytes(file.data[: len(file.data) - len(audio)])
    if not tag and not any(chunk.startswith(TAG_CHUNKS) for chunk in described):
        return {}
    # Without its audio, which FFmpeg would look through for what it is.
    body = b"".join([bytes(audio[8:12]), *described, b"data", bytes(4)])
    order: Literal["big", "little"] = "big" if bytes(audio[:4]) == b"RIFX" else "little"
    try:
        with container_of(tag + bytes(audio[:4]) + len(body).to_bytes(4, order) + body) as container:
            return dict(container.metadata)
    except DecodeError:
        return {}
