"""What a native decoder can do to its process costs one track, never the caller."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from tests.commands import wait_for
from tonearm.audio.decode import DecodeRequest, decode
from tonearm.audio.sandbox import DecodeSandbox, receive_message
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError
from tonearm.settings import DecodeSettings

REQUEST = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 14400)
LONG_S = 5400.0


def flac(seconds: float, sample_rate: int = 8000) -> bytes:
    samples = np.random.default_rng(0).normal(0, 0.1, int(seconds * sample_rate))
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def short() -> bytes:
    return flac(2.0)


@pytest.fixture(scope="module")
def long() -> bytes:
    """Long enough to be in the middle of decoding for a second or more, on a fast processor too."""
    return flac(LONG_S)


def hurt(sandbox: DecodeSandbox, number: int, num_children: int = 1) -> None:
    """Send each of so many children a signal once it is at work."""
    last = None
    for _ in range(num_children):
        wait_for(lambda: sandbox.child_pid not in (None, last), what="a child")  # noqa: B023
        last = sandbox.child_pid
        assert last is not None
        child = psutil.Process(last)
        before = sum(child.cpu_times()[:2])
        wait_for(lambda: sum(child.cpu_times()[:2]) > before + 0.3, what="the child at work")  # noqa: B023
        os.kill(last, number)


def test_equals_decoding_here(short: bytes) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        there, here = sandbox.decode(short, REQUEST), decode(short, REQUEST)
    assert there.info == here.info
    assert there.streams[0].spans == here.streams[0].spans
    assert np.array_equal(there.streams[0].pcm, here.streams[0].pcm)


def test_samples_that_somebody_holds_are_not_written_over(short: bytes) -> None:
    """A file of samples is used again only once nobody holds samples of it, whatever the next track's length."""
    tracks = [short, flac(3.0), flac(1.0), short, flac(0.5)]
    expected = [decode(track, REQUEST).streams[0].pcm for track in tracks]
    with DecodeSandbox(DecodeSettings()) as sandbox:
        held = [sandbox.decode(track, REQUEST).streams[0].pcm for track in tracks]
        for track, samples in zip(tracks, expected, strict=True):
            assert np.array_equal(sandbox.decode(track, REQUEST).streams[0].pcm, samples)
        assert all(np.array_equal(own, samples) for own, samples in zip(held, expected, strict=True))


def test_files_of_samples_do_not_pile_up(short: bytes) -> None:
    """Each is closed or used again, also those that are given back after the sandbox has ended."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("only Linux lists the descriptors of a process")
    before = len(list(descriptors.iterdir()))
    with DecodeSandbox(DecodeSettings()) as sandbox:
        sandbox.decode(short, REQUEST)
        first = len(list(descriptors.iterdir()))
        held = [sandbox.decode(short, REQUEST) for _ in range(5)]
        held = held[-1:]
        for _ in range(20):
            sandbox.decode(short, REQUEST)
        assert len(list(descriptors.iterdir())) <= first + 4
    del held
    assert len(list(descriptors.iterdir())) == before


def test_results_stay_valid_after_later_tracks_and_after_the_sandbox(short: bytes) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        first = sandbox.decode(short, REQUEST).streams[0]
        before = first.pcm.copy()
        sandbox.decode(flac(3.0), REQUEST)
    assert np.array_equal(first.pcm, before)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, 40])
def test_a_crash_is_one_track(number: int, short: bytes, long: bytes) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        sandbox.decode(short, REQUEST)
        thread = threading.Thread(target=hurt, args=(sandbox, number, 2))
        thread.start()
        # Signals of real time have no names.
        name = number.name if isinstance(number, signal.Signals) else f"signal {number}"
        with pytest.raises(DecodeError, match=name) as caught:
            sandbox.decode(long, REQUEST)
        thread.join()
        assert caught.value.code == "decode_crashed"
        assert sandbox.decode(short, REQUEST).info.duration_s == pytest.approx(2.0)


def test_a_track_is_not_blamed_for_what_a_fresh_child_survives(short: bytes, long: bytes) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        sandbox.decode(short, REQUEST)
        thread = threading.Thread(target=hurt, args=(sandbox, signal.SIGSEGV))
        thread.start()
        assert sandbox.decode(long, REQUEST).info.duration_s == pytest.approx(LONG_S)
        thread.join()


def test_a_track_is_not_blamed_for_a_kill_from_outside(long: bytes) -> None:
    """A fresh child, and not even one track before: SIGKILL is no decoder's own end."""
    with DecodeSandbox(DecodeSettings()) as sandbox:
        thread = threading.Thread(target=hurt, args=(sandbox, signal.SIGKILL))
        thread.start()
        assert sandbox.decode(long, REQUEST).info.duration_s == pytest.approx(LONG_S)
        thread.join()


def test_a_hang_ends_at_the_deadline(short: bytes, long: bytes) -> None:
    with DecodeSandbox(DecodeSettings(timeout_s=3.0)) as sandbox:
        sandbox.decode(short, REQUEST)
        hung = sandbox.child_pid
        assert hung is not None
        thread = threading.Thread(target=hurt, args=(sandbox, signal.SIGSTOP))
        thread.start()
        with pytest.raises(DecodeError, match=r"timeout_s = 3") as caught:
            sandbox.decode(long, REQUEST)
        thread.join()
        assert caught.value.code == "decode_timeout"
        assert not psutil.pid_exists(hung)
        assert sandbox.decode(short, REQUEST).info.duration_s == pytest.approx(2.0)


def child_address_space(short: bytes) -> int:
    """Return the bytes of address space of a child that has decoded a track: it differs from machine to machine."""
    with DecodeSandbox(DecodeSettings()) as sandbox:
        sandbox.decode(short, REQUEST)
        return int(psutil.Process(sandbox.child_pid).memory_info().vms)


def test_a_memory_bomb_is_one_track(short: bytes, long: bytes) -> None:
    # Half an hour at 16 kHz is 58 MB of output, asked for when decoding has taken about 115 MB.
    limit = child_address_space(short) + 145 * 10**6
    with DecodeSandbox(DecodeSettings(max_memory_bytes=limit)) as sandbox:
        with pytest.raises(DecodeError, match="max_memory_bytes") as caught:
            sandbox.decode(long, REQUEST)
        assert caught.value.code == "decode_memory"
        assert sandbox.decode(short, REQUEST).info.duration_s == pytest.approx(2.0)


def test_a_native_decoder_that_meets_the_limit_is_one_track(short: bytes, long: bytes) -> None:
    # Here it is mostly native code that asks, and some of it dies of SIGSEGV where an allocation fails.
    limit = child_address_space(short) + 30 * 10**6
    with DecodeSandbox(DecodeSettings(max_memory_bytes=limit)) as sandbox:
        with pytest.raises(DecodeError) as caught:
            sandbox.decode(long, REQUEST)
        assert caught.value.code in {"decode_memory", "decode_crashed"}
        assert sandbox.decode(short, REQUEST).info.duration_s == pytest.approx(2.0)


def test_a_child_that_died_between_tracks_is_replaced(short: bytes) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        sandbox.decode(short, REQUEST)
        pid = sandbox.child_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert sandbox.decode(short, REQUEST).info.duration_s == pytest.approx(2.0)


def test_the_child_dies_with_its_parent(short: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(short)
    code = (
        "import sys, time\n"
        "from tonearm.audio.decode import DecodeRequest\n"
        "from tonearm.audio.sandbox import DecodeSandbox\n"
        "from tonearm.audio.windows import WindowPlan\n"
        "from tonearm.settings import DecodeSettings\n"
        "sandbox = DecodeSandbox(DecodeSettings())\n"
        "request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60)\n"
        f"sandbox.decode(open({str(tmp_path / 'x.flac')!r}, 'rb').read(), request)\n"
        "print(sandbox.child_pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_for(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
        what="the child gone",
    )


@pytest.mark.parametrize(
    "playlist", ["#EXTM3U\n#EXTINF:2,\nfile://{path}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {path}\n"]
)
def test_a_playlist_does_not_open_what_it_names(playlist: str, short: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.flac").write_bytes(short)
    with DecodeSandbox(DecodeSettings()) as sandbox, pytest.raises(DecodeError) as caught:
        sandbox.decode(playlist.format(path=tmp_path / "secret.flac").encode(), REQUEST)
    assert caught.value.code in ("not_audio", "corrupt")


def test_a_large_file_does_not_take_the_memory_of_the_tracks_after_it() -> None:
    from tonearm.audio.sandbox import KEPT_BYTES, memory_file
    from tonearm.audio.sandbox_child import _Source

    descriptor = memory_file("encoded")
    try:
        os.truncate(descriptor, KEPT_BYTES)
        source = _Source(descriptor)
        assert len(source.view(1000)) == 1000
        assert len(source._pages) == KEPT_BYTES
        os.truncate(descriptor, 2 * KEPT_BYTES)
        assert len(source.view(2 * KEPT_BYTES)) == 2 * KEPT_BYTES
        assert len(source._pages) == KEPT_BYTES
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "sent", [b"", b"\1", b"\xff" * 8, b"\2" + bytes(7) + b"[]", b"\1" + bytes(7) + b"x", b"\2" + bytes(7) + b"\xff\xff"]
)
def test_garbage_from_a_broken_child_is_not_taken_for_a_message(sent: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(sent)
        there.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            receive_message(here)
