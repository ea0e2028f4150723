"""Whisper takes windows of the length that its extractor pads to."""

from __future__ import annotations

from tonearm.models.families.whisper import SCRATCH, Whisper


def test_a_window_is_as_long_as_the_extractors_chunk() -> None:
    assert Whisper().native_window_s(SCRATCH.config, {}, 16000) == 30.0
    assert Whisper().native_window_s(SCRATCH.config, {"chunk_length": 10}, 16000) == 10.0


def test_the_extractor_must_make_as_many_bands_as_the_model_takes() -> None:
    assert Whisper().preprocessor_shape({"num_mel_bins": 128}) == {"feature_size": 128}
