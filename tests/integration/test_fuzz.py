"""Five thousand damaged and hostile files through the sandbox: each is a track or an error that says what is wrong."""

from __future__ import annotations

import functools
import io
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.parity.coverage_cases import KINDS, Kind
from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError
from tonearm.settings import DecodeSettings

pytestmark = pytest.mark.slow

SEED, NUM_FILES, LENGTH_S = 15, 5000, 0.7
SETTINGS = DecodeSettings(timeout_s=30.0, max_memory_bytes=2**30)
PLAN = WindowPlan(16000, 16000, 16000, None, 400)
REQUEST = DecodeRequest((PLAN,), 60.0)
# A header may ask FFmpeg for any amount of memory: there, that the limit holds is all there is to ask.
CODES = {"empty_file", "not_audio", "no_audio", "corrupt", "too_short", "decode_memory"}
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@functools.cache
def whole_file(kind: Kind) -> bytes:
    return kind.write(LENGTH_S)


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 16, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def extreme(data: bytes, rng: random.Random) -> bytes:
    """Put the least and largest numbers where headers have lengths, rates and counts."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        size = rng.choice((1, 2, 4))
        at = rng.randrange(min(len(changed), 256) - size)
        order = rng.choice(("<", ">"))
        value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
        struct.pack_into(order + {1: "B", 2: "H", 4: "I"}[size], changed, at, value)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def without_a_part(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.sample(range(len(data)), 2))
    return data[:first] + data[last:]


def with_zeros(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    size = rng.choice((16, 256, 4096))
    return data[:at] + bytes(size) + data[at + rng.choice((0, size)) :]


def spliced(data: bytes, rng: random.Random) -> bytes:
    other = whole_file(rng.choice(KINDS))
    return data[: rng.randrange(1, len(data))] + other[rng.randrange(len(other)) :]


def garbage(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, 4, 12, 64))] + rng.randbytes(rng.choice((1, 100, 5000)))


CHANGES = (flipped, flipped, extreme, extreme, cut, without_a_part, with_zeros, spliced, garbage)


def damaged_files() -> Iterator[tuple[str, bytes]]:
    rng = random.Random(SEED)
    for number in range(NUM_FILES):
        kind, change = rng.randrange(len(KINDS)), rng.choice(CHANGES)
        name = f"{number}: {KINDS[kind].title}, {change.__name__}"
        yield f"{name}.{KINDS[kind].extension}", change(whole_file(KINDS[kind]), rng)


def outcome_of(sandbox: DecodeSandbox, name: str, data: bytes, request: DecodeRequest = REQUEST) -> str:
    """Decode, check what a track must be, and return ``ok`` or the code."""
    try:
        track = sandbox.decode(data, request, name)
    except DecodeError as error:
        assert error.message.isprintable(), name
        return error.code
    check(track, request.limited()[0], name)
    return "ok"


def check(track: DecodedTrack, plan: WindowPlan, name: str) -> None:
    assert 0 < track.decoded_share <= 1 and track.info.duration_s > 0, name
    stream = track.stream(plan.sample_rate)
    assert abs(stream.num_samples - track.info.duration_s * plan.sample_rate) < 100, name
    for start in plan.starts(stream.num_samples):
        assert np.isfinite(stream.window(int(start), plan.window_samples)).all(), name


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_five_thousand_damaged_files_are_tracks_or_errors() -> None:
    """No damaged file ends a decoder, holds it for long or makes it large."""
    outcomes: Counter[str] = Counter()
    unclean: dict[str, str] = {}
    slowest, largest = (0.0, ""), 0
    with DecodeSandbox(SETTINGS) as sandbox:
        for name, data in damaged_files():
            started = time.monotonic()
            code = outcome_of(sandbox, name, data)
            slowest = max(slowest, (time.monotonic() - started, name))
            outcomes[code] += 1
            if code not in CODES | {"ok"}:
                unclean[name] = code
            if sandbox.child_pid is not None:
                largest = max(largest, peak_bytes(sandbox.child_pid))
    print(f"{dict(outcomes)}; at most {slowest[0]:.1f} s ({slowest[1]}), {largest / 2**20:.0f} MiB")
    assert unclean == {}
    assert sum(outcomes.values()) == NUM_FILES and outcomes["ok"] > NUM_FILES // 4
    assert outcomes["decode_memory"] < NUM_FILES // 1000


def wave(rate: int, channels: int, frames: int, *, declared: int | None = None) -> bytes:
    """Return a WAV of 16 bits, by hand: its writers refuse what stands in headers of hostile files."""
    data = np.random.default_rng(0).integers(-9999, 9999, frames * channels, np.int16).tobytes()
    size = len(data) if declared is None else declared
    block = 2 * channels & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, 16)
    body = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4 & 0xFFFFFFFF) + b"WAVE" + body


@functools.cache
def silence(length_s: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=8000, layout="mono")
        samples = np.zeros((1, 8000 * 60), np.int16)
        for minute in range(length_s // 60):
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, minute * samples.shape[1]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def empty_pages(count: int) -> bytes:
    """Return Ogg pages without a packet, each the first of a stream of its own."""
    return b"".join(
        b"OggS\0\2" + bytes(8) + struct.pack("<II", number, 0) + bytes(4) + b"\0" for number in range(count)
    )


def atoms(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(inner) + 8 & 0xFFFFFFFF) + b"moov" + inner
    return b"\0\0\0\x14ftypM4A \0\0\0\0M4A " + inner


BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "1 Hz": (lambda: wave(1, 1, 16_000), {"ok"}),
    "4 GHz": (lambda: wave(2**32 - 1, 1, 16_000), {"not_audio", "corrupt", "too_short"}),
    "65,535 channels": (lambda: wave(16000, 65535, 40), {"not_audio", "corrupt", "too_short"}),
    "65,535 channels of 4 GiB": (
        lambda: wave(16000, 65535, 4, declared=2**32 - 2),
        {"not_audio", "corrupt", "too_short"},
    ),
    "no channel": (lambda: wave(16000, 0, 0), {"not_audio", "corrupt"}),
    "five hours of silence in 100 KB": (lambda: silence(5 * 3600), {"ok"}),
    "pages without a packet": (lambda: empty_pages(20_000), {"not_audio", "corrupt"}),
    "atoms in atoms": (lambda: atoms(5000), {"not_audio", "no_audio"}),
    "a tag of 256 MB": (lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(1000), {"not_audio", "corrupt"}),
    "packed": (lambda: zlib.compress(bytes(10**8)), {"not_audio"}),
    "a list of files": (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", {"not_audio"}),
    "a script of files": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", {"not_audio"}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_compression_bombs_are_refused(name: str) -> None:
    """What is small and claims to be huge costs no more than the limits say."""
    make, codes = BOMBS[name]
    with DecodeSandbox(SETTINGS) as sandbox:
        assert outcome_of(sandbox, name, make()) in codes
        assert sandbox.child_pid is not None and peak_bytes(sandbox.child_pid) < SETTINGS.max_memory_bytes


@pytest.mark.parametrize("name", ["1 Hz", "five hours of silence in 100 KB"])
def test_what_is_too_long_is_refused_before_it_is_decoded(name: str) -> None:
    """A limit of the length holds in the child, as soon as the header tells."""
    data = BOMBS[name][0]()
    request = DecodeRequest((PLAN,), 3600.0, max_duration_s=3600.0)
    with DecodeSandbox(SETTINGS) as sandbox:
        outcome_of(sandbox, "warm up", wave(16000, 1, 16000))
        assert sandbox.child_pid is not None
        before_s, before = cpu_s(sandbox.child_pid), peak_bytes(sandbox.child_pid)
        assert outcome_of(sandbox, name, data, request) == "too_long"
        assert cpu_s(sandbox.child_pid) - before_s < 1.0
        assert peak_bytes(sandbox.child_pid) - before < 50 * 2**20


def test_a_stream_that_exceeds_the_limit_is_refused_while_it_is_read() -> None:
    """Where the header tells no length, decoding ends once there is more than allowed."""
    data = silence(5 * 3600)
    at = data.index(b"fLaC") + 4 + 4 + 14
    untold = data[: at - 1] + bytes([data[at - 1] & 0xF0]) + bytes(4) + data[at + 4 :]
    request = DecodeRequest((PLAN,), 3600.0, max_duration_s=3600.0)
    with DecodeSandbox(SETTINGS) as sandbox:
        assert outcome_of(sandbox, "untold.flac", untold, request) == "too_long"
        assert sandbox.child_pid is not None and peak_bytes(sandbox.child_pid) < 2**29


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
