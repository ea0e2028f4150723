"""Files that other programs play to their end, and that a hasty reading of their headers calls cut, long or broken."""

from __future__ import annotations

import fractions
import io
import struct
import zlib
from collections.abc import Callable

import av
import numpy as np
import pytest

from tonearm.audio.decode import DecodeRequest, decode
from tonearm.audio.readers import ogg
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError

PLAN = WindowPlan(16000, 16000, 16000, None, 400)
RATE = 48000
NOISE = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)


def encoded(
    container: str,
    codec: str,
    length_s: float,
    *,
    video_s: float = 0.0,
    quiet_s: float = 0.0,
    rate: int = RATE,
    codec_options: dict[str, str] | None = None,
    **options: str,
) -> bytes:
    """Return noise, after ``quiet_s`` that a variable bit rate makes little of, beside a picture that moves."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        sound = output.add_stream(codec, rate=rate, layout="mono", options=codec_options or {})
        if video_s:
            picture = output.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
            for number in range(round(10 * video_s)):
                image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 255, np.uint8), format="rgb24")
                image.pts = number
                output.mux(picture.encode(image))
            output.mux(picture.encode())
        samples = NOISE[: round(length_s * rate)].copy()
        samples[: round(quiet_s * rate)] *= 1e-4
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        resampler = av.AudioResampler(sound.format.name, "mono", rate, sound.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(sound.encode(piece))
        output.mux(sound.encode(None))
    return file.getvalue()


def id3v2(num_bytes: int) -> bytes:
    """Return an ID3v2.3 tag with a picture of so many bytes."""
    body = b"\0image/jpeg\0\3\0\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(num_bytes)
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    return b"ID3\3\0\0" + bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


def later(data: bytes, seconds: int) -> bytes:
    """Return an Ogg Opus file as a recorder writes it that joins a broadcast: all its times that much later."""
    changed, at = bytearray(data), 0
    while at + ogg.HEADER <= len(data):
        end = ogg._end_of_page(data, at)
        (position,) = struct.unpack_from("<q", data, at + 6)
        if position > 0:
            struct.pack_into("<q", changed, at + 6, position + 48000 * seconds)
        struct.pack_into("<I", changed, at + 22, 0)
        struct.pack_into("<I", changed, at + 22, ogg_crc(bytes(changed[at:end])))
        at = end
    return bytes(changed)


def ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def doubles(length_s: float) -> bytes:
    """Return integers of 64 bits, of which numpy's bridge to FFmpeg knows nothing."""
    return encoded("nut", "pcm_s64le", length_s, rate=16000)


def variable() -> bytes:
    return encoded(
        "mp3",
        "libmp3lame",
        12,
        quiet_s=8,
        write_xing="0",
        id3v2_version="0",
        codec_options={"compression_level": "9", "global_quality": "600", "flags": "+qscale"},
    )


def unsized_aiff(length_s: float, size: int, frames: int) -> bytes:
    """Return an AIFF as it is written into a pipe."""
    data = bytearray(encoded("aiff", "pcm_s16be", length_s))
    struct.pack_into(">I", data, data.index(b"SSND") + 4, size)
    struct.pack_into(">I", data, data.index(b"COMM") + 10, frames)
    return bytes(data)


def unsized_mulaw(length_s: float) -> bytes:
    """Return a WAV as sox writes it into a pipe."""
    data = bytearray(encoded("wav", "pcm_mulaw", length_s))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0x7FFFF000)
    struct.pack_into("<I", data, data.index(b"fact") + 8, 0x7FFFF000)
    return bytes(data)


HEALTHY: dict[str, tuple[Callable[[], bytes], float]] = {
    "sound of 3 s in a film of 9": (lambda: encoded("matroska", "aac", 3, video_s=9), 3),
    "a recording that joined after a minute": (lambda: later(encoded("ogg", "libopus", 4), 60), 4),
    "a recording that joined after ten hours": (lambda: later(encoded("ogg", "libopus", 4), 36000), 4),
    "a variable rate behind a large cover": (lambda: id3v2(400_000) + variable(), 12),
    "FLAC behind a cover of a megabyte": (lambda: id3v2(1_100_000) + encoded("flac", "flac", 4), 4),
    "AAC behind a cover of a megabyte": (lambda: id3v2(1_100_000) + encoded("adts", "aac", 4), 4),
    "TTA behind a cover of a megabyte": (lambda: id3v2(1_100_000) + encoded("tta", "tta", 4), 4),
    "AIFF behind a tag": (lambda: id3v2(300) + encoded("aiff", "pcm_s16be", 4), 4),
    "WavPack behind a tag": (lambda: id3v2(300) + encoded("wv", "wavpack", 4), 4),
    "WAV behind two tags": (lambda: id3v2(300) + id3v2(200) + encoded("wav", "pcm_s16le", 4), 4),
    "a short MP3 and zeros": (lambda: encoded("mp3", "libmp3lame", 0.5) + bytes(417), 0.5),
    "a short MP3 and a tag": (lambda: encoded("mp3", "libmp3lame", 2) + id3v2(20_000), 2),
    "a short AC-3 and a tag": (lambda: encoded("ac3", "ac3", 0.5) + b"TAG" + bytes(125), 0.5),
    "two MP3s in one": (lambda: 2 * encoded("mp3", "libmp3lame", 2), 4),
    "AIFF from sox's pipe": (lambda: unsized_aiff(4, 0x7F000008, 0x3F800000), 4),
    "AIFF from FFmpeg's pipe": (lambda: unsized_aiff(4, 0, 0), 4),
    "mu-law from a pipe": (lambda: unsized_mulaw(4), 4),
    "a tenth of a second in Matroska": (lambda: encoded("matroska", "libmp3lame", 0.1), 0.1),
    "a twentieth of a second of Opus": (lambda: encoded("ogg", "libopus", 0.05), 0.05),
    "integers of 64 bits": (lambda: doubles(2), 2),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_files_are_decoded_completely(name: str) -> None:
    make, length_s = HEALTHY[name]
    data = make()
    track = decode(data, DecodeRequest((PLAN,), 1e4))
    assert (track.info.duration_s, track.decoded_share) == (pytest.approx(length_s, abs=0.08), 1.0)
    # Nor is it longer than it is for a limit.
    assert decode(data, DecodeRequest((PLAN,), 1e4, max_duration_s=length_s + 1)).info == track.info


def test_a_damaged_packet_where_the_length_is_an_estimate() -> None:
    data = variable()
    at = len(data) // 2
    damaged = data[:at] + bytes(byte ^ 0xA5 for byte in data[at : at + 300]) + data[at + 300 :]
    track = decode(damaged, DecodeRequest((PLAN,), 1e4))
    assert 0.96 < track.decoded_share <= 1.0 and track.info.duration_s == pytest.approx(12, abs=0.5)


def chained() -> tuple[bytes, bytes]:
    return encoded("ogg", "libopus", 4), encoded("ogg", "flac", 4, rate=16000)


@pytest.mark.parametrize(
    "joined",
    [
        lambda one, two: one + two,
        lambda one, two: one + b"junkxxx" + two,
        lambda one, two: one + bytes(64) + two,
        lambda one, two: one + b"TAG" + bytes(125) + two,
        lambda one, two: id3v2(300) + one + two,
    ],
    ids=["as it should be", "junk between", "zeros between", "a tag between", "a tag in front"],
)
def test_a_chain_is_read_to_its_end(joined: Callable[[bytes, bytes], bytes]) -> None:
    track = decode(joined(*chained()), DecodeRequest((PLAN,), 1e4))
    assert (track.info.duration_s, track.decoded_share) == (pytest.approx(8, abs=0.05), 1.0)


def test_a_chain_with_a_link_that_cannot_be_read_says_so() -> None:
    one, two = chained()
    for first, second in ((one, two[:30] + bytes(40) + two[70:]), (one[:30] + bytes(40) + one[70:], two)):
        track = decode(first + second, DecodeRequest((PLAN,), 1e4))
        assert track.info.duration_s == pytest.approx(4, abs=0.05) and track.decoded_share < 0.9
    with pytest.raises(DecodeError, match="not a file that FFmpeg can read"):
        decode(one[:30] + bytes(40) + one[70:], DecodeRequest((PLAN,), 1e4))


@pytest.mark.parametrize(
    ("container", "codec", "layout", "tolerance"),
    [
        ("mp4", "aac", "7.1", 0.01),
        ("matroska", "aac", "6.1", 0.01),
        ("ogg", "libopus", "7.1", 0.02),
        ("flac", "flac", "7.1", 1e-4),
        ("wv", "wavpack", "7.1", 1e-4),
        ("wv", "wavpack", "hexadecagonal", 1e-4),
        ("caf", "pcm_f32le", "22.2", 1e-6),
    ],
)
def test_every_channel_is_heard(container: str, codec: str, layout: str, tolerance: float) -> None:
    """The mean of a tone in each of so many channels, each with an amplitude of its own."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, layout=layout)
        count = stream.layout.nb_channels
        tone = np.sin(np.arange(RATE, dtype=np.float32) * (2 * np.pi * 80 / RATE))
        volumes = np.linspace(0.1, 0.6, count, dtype=np.float32)
        # By interleaved samples: PyAV counts planes wrongly from eight on, which is what this is about.
        frame = av.AudioFrame.from_ndarray((tone[:, None] * volumes).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.codec_context.codec.audio_formats[0], layout, RATE, stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    track = decode(file.getvalue(), DecodeRequest((PLAN,), 1e4))
    assert (track.info.duration_s, track.decoded_share) == (pytest.approx(1.0, abs=0.05), 1.0)
    found = track.streams[0].window(4000, 8000)
    assert np.sqrt(2 * np.mean(found**2)) == pytest.approx(volumes.mean(), rel=max(tolerance, 1e-3))


def test_what_libsndfile_reads_better_sounds_as_it_says() -> None:
    data = encoded("wav", "pcm_s16le", 1)
    samples = np.frombuffer(data[data.index(b"data") + 8 :], "<i2")
    header = struct.pack(">HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = (
        b"fmt "
        + struct.pack(">I", 16)
        + header
        + b"data"
        + struct.pack(">I", 2 * len(samples))
        + samples.astype(">i2").tobytes()
    )
    found = decode(b"RIFX" + struct.pack(">I", 4 + len(body)) + b"WAVE" + body, DecodeRequest((PLAN,), 1e4))
    wanted = decode(data, DecodeRequest((PLAN,), 1e4))
    assert np.array_equal(found.streams[0].pcm, wanted.streams[0].pcm)


def test_a_file_of_compressed_zeros_is_not_audio() -> None:
    with pytest.raises(DecodeError):
        decode(zlib.compress(bytes(10**6)), DecodeRequest((PLAN,), 1e4))
