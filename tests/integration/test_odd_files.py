"""Every odd and broken file gets the outcome that the index beside it promises, through the real sandbox."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import pytest

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError
from tonearm.settings import DecodeSettings

REQUEST = DecodeRequest(
    (WindowPlan(16000, 480000, 480000, None, 400), WindowPlan(16000, 163840, 163840, None, 400)), 14400
)
CODES = {
    "fails": {"not_audio", "corrupt", "empty_file"},
    "empty": {"corrupt", "empty_file"},
    "no_audio": {"no_audio"},
}


def outcome_of(sandbox: DecodeSandbox, path: Path) -> DecodedTrack | DecodeError:
    try:
        return sandbox.decode(path.read_bytes(), REQUEST)
    except DecodeError as error:
        return error


def complaint(row: dict[str, str], outcome: DecodedTrack | DecodeError) -> str | None:
    expected = row["expected"]
    if isinstance(outcome, DecodeError):
        if expected in CODES:
            return None if outcome.code in CODES[expected] else f"code {outcome.code}: {outcome.message}"
        is_short = outcome.code == "too_short" and float(row["duration_s"]) < 0.025
        return None if is_short else f"{outcome.code}: {outcome.message}"
    if expected in CODES:
        return f"decoded {outcome.info}"
    if expected == "partial" and outcome.decoded_share >= 1:
        return "a partial file with a coverage of 1"
    info, duration_s = outcome.info, float(row["duration_s"])
    if abs(info.duration_s - duration_s) > max(0.15, 0.02 * duration_s):
        return f"duration {info.duration_s}"
    codec = av.Codec(row["codec"], "r").canonical_name  # the index has the decoder's name: mp3float for mp3
    if (info.codec, str(info.sample_rate), str(info.channels)) != (codec, row["sample_rate"], row["channels"]):
        return f"{info}"
    return None


def test_every_odd_file_ends_as_its_index_says(shared_audio: Path) -> None:
    with (shared_audio / "odd" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 140
    with DecodeSandbox(DecodeSettings()) as sandbox:
        complaints = {
            row["file"]: complaint(row, outcome_of(sandbox, shared_audio / "odd" / row["file"])) for row in rows
        }
    assert {name: text for name, text in complaints.items() if text} == {}


def test_three_hours_from_272_kb_are_audio_within_memory(shared_audio: Path) -> None:
    with DecodeSandbox(DecodeSettings()) as sandbox:
        track = sandbox.decode((shared_audio / "odd" / "silence_3h.flac").read_bytes(), REQUEST)
    assert track.info.duration_s == pytest.approx(3 * 3600)
    stream = track.stream(16000)
    assert len(REQUEST.plans[0].starts(stream.num_samples)) == 360
    assert len(stream.pcm) == stream.num_samples == 3 * 3600 * 16000
