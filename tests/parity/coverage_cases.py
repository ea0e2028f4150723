"""Every container and codec that can be written here, whole and damaged, and what becomes of it."""

from __future__ import annotations

import dataclasses
import io
import itertools
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import soundfile

LENGTH_S = 8
RATES, HEADER_BYTES = (8000, 16000, 44100, 48000), 8192
JUNK_BYTES, DAMAGED_BYTES, DAMAGED_AT = 3000, 300, 0.6


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        write: gives one of so many seconds.
        tells: whether what is left of a file tells how long the whole was.
        unit_s: what a damaged or missing byte takes with it.
    """

    title: str
    write: Callable[[float], bytes]
    tells: bool = True
    unit_s: float = 0.1
    extension: str = ""


def _noise(rate: int, length_s: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 0.1, round(rate * length_s)).astype(np.float32)


def _by_ffmpeg(container: str, codec: str, rate: int, options: Mapping[str, str], length_s: float) -> bytes:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  moving an index to the front opens it by its name again
    with file, av.open(file.name, "w", format=container, options=dict(options)) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(_noise(rate, length_s)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
        output.close()
        return Path(file.name).read_bytes()


def _by_sndfile(container: str, subtype: str, rate: int, endian: str, length_s: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _noise(rate, length_s), rate, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def ffmpeg(
    container: str, codec: str, rate: int = 48000, *, tells: bool = True, unit_s: float = 0.1, **options: str
) -> Kind:
    title = " ".join([container, codec, *(f"{name}={value}" for name, value in options.items())])
    return Kind(title, lambda length_s: _by_ffmpeg(container, codec, rate, options, length_s), tells, unit_s, container)


def sndfile(
    container: str, subtype: str, rate: int = 16000, *, endian: str = "FILE", tells: bool = True, unit_s: float = 0.3
) -> Kind:
    title = f"{container} {subtype}" + (" big-endian" if endian == "BIG" else "")
    return Kind(title, lambda length_s: _by_sndfile(container, subtype, rate, endian, length_s), tells, unit_s)


KINDS = (
    ffmpeg("mp3", "libmp3lame"),
    ffmpeg("mp3", "libmp3lame", tells=False, write_xing="0"),
    ffmpeg("mp2", "mp2", tells=False),
    ffmpeg("adts", "aac", tells=False),
    ffmpeg("latm", "aac", tells=False, unit_s=0.4),
    ffmpeg("mp4", "aac"),
    ffmpeg("mp4", "aac", movflags="faststart", unit_s=0.3),
    ffmpeg("mp4", "aac", movflags="empty_moov+frag_keyframe", unit_s=0.3),
    ffmpeg("ipod", "alac"),
    ffmpeg("mov", "pcm_s16le"),
    ffmpeg("3gp", "aac"),
    ffmpeg("matroska", "aac", unit_s=0.3),
    ffmpeg("webm", "libopus", unit_s=0.4),
    ffmpeg("ogg", "libopus", tells=False, unit_s=1.1),
    ffmpeg("flac", "flac"),
    ffmpeg("avi", "mp2"),
    ffmpeg("mpegts", "aac", tells=False),
    ffmpeg("mpeg", "mp2", tells=False),
    ffmpeg("ac3", "ac3", tells=False),
    ffmpeg("eac3", "eac3", tells=False),
    ffmpeg("tta", "tta", unit_s=1.1),
    ffmpeg("wv", "wavpack", unit_s=0.6),
    ffmpeg("caf", "pcm_s16le"),
    ffmpeg("aiff", "pcm_s16be"),
    ffmpeg("au", "pcm_s16be"),
    ffmpeg("wav", "pcm_s16le"),
    ffmpeg("wav", "pcm_mulaw"),
    ffmpeg("wav", "adpcm_ms"),
    ffmpeg("w64", "pcm_s16le"),
    ffmpeg("voc", "pcm_u8", tells=False, unit_s=3.3),
    ffmpeg("amr", "libopencore_amrnb", 8000, tells=False, unit_s=0.5),
    ffmpeg("flv", "mp3", 44100),
    ffmpeg("ast", "pcm_s16be_planar", unit_s=3.3),
    ffmpeg("sox", "pcm_s32le"),
    ffmpeg("ircam", "pcm_s16le", tells=False),
    ffmpeg("mmf", "adpcm_yamaha", 44100),
    ffmpeg("rm", "ac3"),
    ffmpeg("g722", "g722", 16000, tells=False),
    sndfile("WAV", "FLOAT"),
    sndfile("WAV", "PCM_16", endian="BIG"),
    sndfile("WAV", "IMA_ADPCM"),
    sndfile("WAV", "GSM610", 8000),
    sndfile("WAV", "NMS_ADPCM_16"),
    sndfile("RF64", "PCM_16"),
    sndfile("W64", "PCM_16"),
    sndfile("AIFF", "PCM_16"),
    sndfile("AU", "PCM_16"),
    sndfile("AU", "G721_32"),
    sndfile("CAF", "PCM_16"),
    sndfile("CAF", "ALAC_16"),
    sndfile("SVX", "PCM_16"),
    sndfile("VOC", "PCM_16"),
    sndfile("NIST", "PCM_16"),
    sndfile("PAF", "PCM_16", tells=False),
    sndfile("OGG", "VORBIS", tells=False, unit_s=2.0),
    sndfile("MP3", "MPEG_LAYER_III"),
    sndfile("FLAC", "PCM_24"),
    sndfile("HTK", "PCM_16"),
    sndfile("XI", "DPCM_16", 44100, tells=False),
    sndfile("MAT5", "FLOAT"),
    sndfile("WVE", "ALAW", 8000),
    sndfile("MPC2K", "PCM_16"),
)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def damaged(data: bytes) -> bytes:
    start = int(DAMAGED_AT * len(data))
    stop = start + min(DAMAGED_BYTES, len(data) // 100)
    return data[:start] + bytes(byte ^ 0xA5 for byte in data[start:stop]) + data[stop:]


def after_junk(data: bytes) -> bytes:
    return np.random.default_rng(1).integers(0, 256, JUNK_BYTES, dtype=np.uint8).tobytes() + data


def declared_twice(data: bytes) -> bytes:
    """Return the file with the first length that its header tells doubled; as it is where none is found.

    A length is the number of samples or of bytes of the audio, or one that stands behind a name. ``NOT_THE_LENGTH`` has
    the kinds in which the first such number is another one.
    """
    for name, size, number in ((b"Xing", 12, ">I"), (b"Info", 12, ">I"), (b"\x44\x89\x88", 3, ">d")):
        at = data.find(name, 0, HEADER_BYTES)
        if at >= 0:
            at += size - struct.calcsize(number) if number == ">I" else size
            (value,) = struct.unpack_from(number, data, at)
            return data[:at] + struct.pack(number, 2 * value) + data[at + struct.calcsize(number) :]
    for value in sorted({rate * LENGTH_S * width for rate in RATES for width in (1, 2, 3, 4)}, reverse=True):
        for more, size, order in itertools.product((0, 4, 24), (8, 4), ("little", "big")):
            told = (value + more).to_bytes(size, order)
            at = data.find(told, 0, HEADER_BYTES)
            if at >= 0 and at % 2 == 0:
                return data[:at] + (2 * value + more).to_bytes(size, order) + data[at + size :]
        at = data.find(f" {value}\n".encode(), 0, HEADER_BYTES)
        if at >= 0:
            return data.replace(f" {value}\n".encode(), f" {2 * value}\n".encode(), 1)
    return data


# A bit rate, the fact beside the size of the data, a matrix's shape beside its size, the end of a loop, the longest
# stream beside each one's length.
NOT_THE_LENGTH = frozenset(
    {
        *("avi mp2", "rm ac3", "wav pcm_mulaw", "WAV NMS_ADPCM_16", "ast pcm_s16be_planar"),
        *("CAF ALAC_16", "MAT5 FLOAT", "MPC2K PCM_16", "matroska aac", "webm libopus"),
    }
)
DECLARED_TWICE = "declared twice as long"
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda data: data,
    "cut at 75%": cut(0.75),
    "cut at 50%": cut(0.5),
    "cut at 25%": cut(0.25),
    "damaged": damaged,
    "after junk": after_junk,
    DECLARED_TWICE: declared_twice,
}
