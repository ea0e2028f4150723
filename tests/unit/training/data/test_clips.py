"""Clips are decoded once, whole, by one process at a time, and what does not fit on the disk is said early."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tonearm.audio.decode import decode_waveform
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DestinationError, FetchError
from tonearm.settings import DecodeSettings, FetchSettings
from tonearm.sources.listing import list_tracks
from tonearm.training.data import clips as cache_module
from tonearm.training.data.clips import ClipCache, open_cache
from tonearm.training.data.collection import ClipId

pytestmark = pytest.mark.processes

PLAN = WindowPlan(16000, 16000, 16000, 4, 400)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, seconds in enumerate([0.5, 1.0, 2.6, 9.0]):
        wave = 0.2 * rng.normal(size=round(seconds * 22050))
        soundfile.write(folder / f"{number}.flac", np.clip(wave, -1, 1), 22050)
    (folder / "4.mp3").write_bytes(b"not audio")
    return folder


def ids(folder: Path) -> dict[str, ClipId]:
    """Return the id of each clip by the name of its file, in the order of the listing."""
    return {Path(ref.uri).name: ClipId(ref.track_key) for ref in list_tracks([str(folder)])}


def opened(folder: Path, base: Path, **named: Any) -> ClipCache:
    refs = {ClipId(ref.track_key): ref for ref in list_tracks([str(folder)])}
    return open_cache(base, refs, PLAN, fetch=FetchSettings(), decode=DecodeSettings(), num_threads=2, **named)


def test_what_is_cached_is_what_tagging_would_score(clips: Path, tmp_path: Path) -> None:
    found = opened(clips, tmp_path / "cache")
    waveform, _ = decode_waveform((clips / "2.flac").read_bytes(), 16000)
    clip = found.clip(ids(clips)["2.flac"])
    assert clip.stream.num_samples == len(waveform)
    starts = [start for start, _ in clip.windows()]
    assert starts == pytest.approx([start / 16000 for start in PLAN.starts(len(waveform))])
    for start, window in clip.windows():
        first = round(start * 16000)
        np.testing.assert_allclose(window, waveform[first : first + 16000], atol=1.1 / 32768)


def test_clips_of_any_rate_lie_one_after_the_other(clips: Path, tmp_path: Path) -> None:
    """Those of a low rate are float32, between others of int16 with an odd number of samples."""
    low = 0.2 * np.random.default_rng(1).normal(size=8001)
    soundfile.write(clips / "0a.flac", low, 16000)
    soundfile.write(clips / "1a.wav", low, 8000, subtype="FLOAT")
    found = opened(clips, tmp_path / "cache")
    for name in ("0.flac", "0a.flac", "1.flac", "1a.wav", "2.flac"):
        waveform, _ = decode_waveform((clips / name).read_bytes(), 16000)
        atol = 1e-6 if name == "1a.wav" else 1.1 / 32768
        np.testing.assert_allclose(found.clip(ids(clips)[name]).windows()[0][1], waveform[:16000], atol=atol)


def test_a_long_track_keeps_windows_spread_over_it(clips: Path, tmp_path: Path) -> None:
    windows = opened(clips, tmp_path / "cache").clip(ids(clips)["3.flac"]).windows()
    assert len(windows) == 4
    assert windows[0][0] == 0
    assert windows[-1][0] == pytest.approx(8.0, abs=0.01)


def test_a_clip_that_does_not_decode_is_named_not_fatal(clips: Path, tmp_path: Path) -> None:
    found = opened(clips, tmp_path / "cache")
    assert list(found.errors) == [ids(clips)["4.mp3"]]
    assert found.errors[ids(clips)["4.mp3"]].code == "not_audio"


def test_a_second_opening_decodes_nothing(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, known = opened(clips, tmp_path / "cache"), ids(clips)
    shutil.rmtree(clips)
    monkeypatch.setattr(cache_module.DecodeSandbox, "decode", None)
    again = ClipCache(first.folder, PLAN, known.values())
    np.testing.assert_array_equal(again.clip(known["2.flac"]).stream.pcm, first.clip(known["2.flac"]).stream.pcm)


def test_a_changed_file_is_decoded_anew(clips: Path, tmp_path: Path) -> None:
    first = opened(clips, tmp_path / "cache")
    soundfile.write(clips / "1.flac", np.zeros(44100), 22050)
    second = opened(clips, tmp_path / "cache")
    assert second.folder != first.folder
    assert second.clip(ids(clips)["1.flac"]).stream.num_samples == 32000


def test_a_shard_that_was_being_written_is_written_again(clips: Path, tmp_path: Path) -> None:
    first = opened(clips, tmp_path / "cache")
    (first.folder / "00000.json").unlink()
    (first.folder / "00000.pcm").write_bytes(b"\0\0")
    last = ids(clips)["3.flac"]
    assert opened(clips, tmp_path / "cache").clip(last).digest == first.clip(last).digest


def test_of_two_at_once_only_one_decodes(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = cache_module._Decoder._decode

    def counted(self: Any, ref: Any) -> Any:
        decoded.append(ref.uri)
        return real(self, ref)

    monkeypatch.setattr(cache_module._Decoder, "_decode", counted)
    threads = [threading.Thread(target=opened, args=(clips, tmp_path / "cache")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The one that does not decode is tried again by the second.
    assert sorted(Path(uri).name for uri in decoded) == ["0.flac", "1.flac", "2.flac", "3.flac", "4.mp3", "4.mp3"]


def test_a_disk_that_is_too_small_is_said_after_the_first_shard(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "TRACKS_PER_SHARD", 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DestinationError, match=r"the decoded clips need some .* GiB and .* has 0\.0 GiB free"):
        opened(clips, tmp_path / "cache")
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


def test_progress_ends_at_the_number_of_clips(clips: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    opened(clips, tmp_path / "cache", progress=lambda *numbers: seen.append(numbers))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    again: list[tuple[int, int]] = []
    opened(clips, tmp_path / "cache", progress=lambda *numbers: again.append(numbers))
    assert again == [(5, 5)]


def test_what_could_not_be_read_is_read_again(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage of the store, and only what failed, and of that only what is asked for."""
    read: list[str] = []
    real, down = cache_module.ObjectReader.read, {"1.flac", "2.flac"}

    def through(self: Any, ref: Any) -> bytes:
        read.append(Path(ref.uri).name)
        if read[-1] in down:
            raise FetchError("503", code="fetch_failed")
        return real(self, ref)

    monkeypatch.setattr(cache_module.ObjectReader, "read", through)
    first, known = opened(clips, tmp_path / "cache"), ids(clips)
    names = {clip: name for name, clip in known.items()}
    assert [names[clip] for clip in first.errors] == ["1.flac", "2.flac", "4.mp3"]
    down.clear()
    read.clear()
    asked = {known["2.flac"], known["3.flac"]}
    assert [names[clip] for clip in opened(clips, tmp_path / "cache", again=asked).errors] == ["1.flac", "4.mp3"]
    assert read == ["2.flac"]
    again = opened(clips, tmp_path / "cache")
    assert [names[clip] for clip in again.errors] == ["4.mp3"]
    whole = opened(clips, tmp_path / "other")
    for clip in list(known.values())[:4]:
        assert again.clip(clip).digest == whole.clip(clip).digest
        np.testing.assert_array_equal(again.clip(clip).stream.pcm, whole.clip(clip).stream.pcm)
    assert first.clip(known["3.flac"]).digest == whole.clip(known["3.flac"]).digest
    assert again.folder == first.folder


def test_the_index_is_plain_json(clips: Path, tmp_path: Path) -> None:
    found = opened(clips, tmp_path / "cache")
    tracks = json.loads((found.folder / "00000.json").read_text())["tracks"]
    assert [set(track) for track in tracks][4] == {"error"}
