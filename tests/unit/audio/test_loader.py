"""A track that cannot be fetched or decoded is a value, so that the tracks beside it go on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile

from tonearm.audio.decode import DecodedTrack, DecodeRequest, decode
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DecodeError, FetchError
from tonearm.settings import FetchSettings
from tonearm.sources.local import local_ref
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import make_ref


@dataclasses.dataclass
class InProcess:
    """Decodes as the sandbox does, without its process, and notes the names."""

    names: list[str] = dataclasses.field(default_factory=list)

    def decode(self, data: bytes, request: DecodeRequest, name: str) -> DecodedTrack:
        self.names.append(name)
        return decode(data, request)


@pytest.fixture
def loader() -> TrackLoader:
    request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
    return TrackLoader(ObjectReader(FetchSettings(num_attempts=1)), cast(DecodeSandbox, InProcess()), request)


def test_a_track_is_fetched_and_decoded(loader: TrackLoader, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(32000, np.float32), 16000)
    ref = local_ref(str(tmp_path / "a.wav"))
    track = loader.load(ref)
    assert isinstance(track, DecodedTrack) and track.info.duration_s == 2.0
    assert cast(InProcess, loader.sandbox).names == [ref.uri]


def test_a_track_that_is_gone_is_not_decoded(loader: TrackLoader, tmp_path: Path) -> None:
    error = loader.load(make_ref(str(tmp_path / "gone.wav")))
    assert isinstance(error, FetchError) and error.code == "not_found"
    assert cast(InProcess, loader.sandbox).names == []


def test_a_track_that_is_no_audio_is_an_error_of_its_own(loader: TrackLoader, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"<html>404</html>" * 100)
    error = loader.load(local_ref(str(tmp_path / "a.wav")))
    assert isinstance(error, DecodeError) and error.code == "not_audio"
