"""Where only a few windows are asked for, a track is decoded in parts; they equal those of a whole decode."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tonearm.audio import decode as decode_module
from tonearm.audio.decode import DecodedTrack, DecodeRequest, decode
from tonearm.audio.readers.container import Source, open_source
from tonearm.audio.windows import WindowPlan, dequantize
from tonearm.demo.library import Encoding, encode
from tonearm.demo.songs import compose

PLANS = (WindowPlan(16000, 32000, 32000, 3, 400), WindowPlan(22050, 22050, 22050, 2, 400))
REQUEST = DecodeRequest(PLANS, 14400.0)
# Largest difference; Opus predicts from what came before and forgets it only little by little.
CODECS = {
    "wav": (Encoding("wav", "pcm_s16le", 44100, 2), 4e-5),
    "flac": (Encoding("flac", "flac", 44100, 2), 4e-5),
    "mp3": (Encoding("mp3", "libmp3lame", 44100, 2, 192_000), 1e-4),
    "low mp3": (Encoding("mp3", "libmp3lame", 22050, 1, 32_000), 1e-4),
    "opus": (Encoding("opus", "libopus", 48000, 2, 128_000), 2e-3),
}
WHOLE = {
    "ogg": Encoding("ogg", "vorbis", 44100, 2),
    "m4a": Encoding("m4a", "aac", 48000, 2, 160_000),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, song = tmp_path_factory.mktemp("codecs"), compose("jazz", 3, 45.0)
    made = {}
    for name, encoding in ({name: encoding for name, (encoding, _) in CODECS.items()} | WHOLE).items():
        path = folder / f"{name}.{encoding.extension}"
        encode(path, song.samples, encoding, {"title": "parts"})
        made[name] = path.read_bytes()
    return made


def in_whole(data: bytes, request: DecodeRequest, monkeypatch: pytest.MonkeyPatch) -> DecodedTrack:
    with monkeypatch.context() as patch:
        patch.setattr(decode_module, "SAMPLED_SHARE", 0.0)
        return decode(data, request)


def never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Source) -> None:
        raise AssertionError("the whole track was decoded")

    for kind in Source.__subclasses__():
        monkeypatch.setattr(kind, "blocks", refuse)


@pytest.mark.parametrize("name", CODECS)
def test_the_parts_are_those_of_the_whole(name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = in_whole(files[name], REQUEST, monkeypatch)
    never_whole(monkeypatch)
    parts = decode(files[name], REQUEST)
    assert parts.info == dataclasses.replace(whole.info, duration_s=parts.info.duration_s)
    assert parts.info.duration_s == pytest.approx(whole.info.duration_s, abs=1e-9)
    assert parts.decoded_share == whole.decoded_share == 1.0
    for found, wanted in zip(parts.streams, whole.streams, strict=True):
        assert found.num_samples == wanted.num_samples
        assert found.spans == wanted.spans
        assert len(found.spans) > 1
        difference = np.abs(dequantize(found.pcm, found.scale) - dequantize(wanted.pcm, wanted.scale)).max()
        assert difference < CODECS[name][1]


@pytest.mark.parametrize("name", WHOLE)
def test_a_codec_whose_parts_may_differ_is_decoded_as_a_whole(
    name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = in_whole(files[name], REQUEST, monkeypatch)
    for found, wanted in zip(decode(files[name], REQUEST).streams, whole.streams, strict=True):
        np.testing.assert_array_equal(found.pcm, wanted.pcm)


def test_a_window_in_the_middle_alone(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    request = DecodeRequest((dataclasses.replace(PLANS[0], max_windows=1),), 14400.0)
    (wanted,) = in_whole(files["mp3"], request, monkeypatch).streams
    never_whole(monkeypatch)
    (found,) = decode(files["mp3"], request).streams
    np.testing.assert_allclose(found.pcm * found.scale, wanted.pcm * wanted.scale, atol=1e-4)


def test_most_of_a_track_is_decoded_as_a_whole(files: dict[str, bytes]) -> None:
    request = DecodeRequest((dataclasses.replace(PLANS[0], max_windows=20),), 14400.0)
    source = open_source(files["flac"])
    assert decode_module._read_parts(source, request.limited()) is None


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "m4a"])
def test_a_damaged_or_cut_file_ends_as_a_whole_decode_ends(
    name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(files[name])
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    for broken in (bytes(data), files[name][: len(data) * 2 // 3]):
        outcomes = []
        for run in (lambda given: in_whole(given, REQUEST, monkeypatch), lambda given: decode(given, REQUEST)):
            try:
                track = run(broken)
                outcomes.append(tuple(stream.num_samples for stream in track.streams))
            except decode_module.DecodeError as error:
                outcomes.append(error.code)
        assert outcomes[0] == outcomes[1]


def test_a_rate_of_its_own_is_cut_where_both_rates_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = compose("techno", 5, 30.0)
    encode(tmp_path / "a.flac", song.samples, Encoding("flac", "flac", 96000, 1), {})
    data = (tmp_path / "a.flac").read_bytes()
    whole = in_whole(data, REQUEST, monkeypatch)
    never_whole(monkeypatch)
    for found, wanted in zip(decode(data, REQUEST).streams, whole.streams, strict=True):
        np.testing.assert_allclose(found.pcm * found.scale, wanted.pcm * wanted.scale, atol=4e-5)
