"""The sample of a library: random, the same for a seed, and described from two ends of each file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tonearm.audio.sandbox import DecodeSandbox
from tonearm.errors import DecodeError
from tonearm.planning.sample import Listed, list_sample
from tonearm.settings import DecodeSettings
from tonearm.sources.listing import list_tracks
from tonearm.tagging import HeadPlan, decode_request


@pytest.mark.processes
def test_two_ends_of_a_file_tell_what_decoding_it_does(songs: Path, plans: dict[str, HeadPlan]) -> None:
    request = decode_request(plans, 14400.0)
    formats = set()
    with DecodeSandbox(DecodeSettings()) as sandbox:
        for path in sorted(songs.glob("*/*.*")):
            data = path.read_bytes()
            found = sandbox.describe(data[: len(data) // 4], data[-len(data) // 4 :], len(data))
            true = sandbox.decode(data, request).info
            assert (found.codec, found.sample_rate, found.channels) == (true.codec, true.sample_rate, true.channels)
            assert found.duration_s == pytest.approx(true.duration_s, abs=0.1), path.name
            formats.add(found.codec)
        with pytest.raises(DecodeError) as caught:
            sandbox.describe(b"not audio" * 100, b"", 900)
    assert caught.value.code == "not_audio"
    assert len(formats) >= 5


def test_the_sample_is_random_and_the_same_for_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (tmp_path / f"{number:02d}.{'flac' if number % 3 else 'mp3'}").write_bytes(b"x" * (number + 1))
    monkeypatch.setattr("tonearm.planning.sample.NUM_HEADERS", 20)
    refs = list(list_tracks([str(tmp_path)]))
    done = np.sort([ref.track_key for ref in refs[:10]])

    def sampled(seed: int) -> Listed:
        return list_sample([str(tmp_path)], limit=None, done=done, seed=seed)

    found = sampled(1)
    assert (found.num_tracks, found.num_done) == (50, 10)
    assert found.by_extension == {
        ".flac": (34, sum(n + 1 for n in range(10, 60) if n % 3)),
        ".mp3": (16, sum(n + 1 for n in range(10, 60) if not n % 3)),
    }
    assert len(set(found.sample)) == 20 and not {ref.track_key for ref in found.sample} & set(done.tolist())
    assert found.sample == sampled(1).sample != sampled(2).sample
    counts = np.zeros(60)
    for seed in range(200):
        for ref in sampled(seed).sample:
            counts[int(Path(ref.uri).stem)] += 1
    assert counts[:10].sum() == 0 and (abs(counts[10:] / 200 - 0.4) < 0.15).all(), "every track is as likely as another"
