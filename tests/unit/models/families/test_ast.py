"""The Audio Spectrogram Transformer takes windows of one length: that of its spectrogram."""

from __future__ import annotations

import pytest

from tonearm.models.families.ast import SCRATCH, Ast


def test_a_window_is_as_long_as_the_spectrogram() -> None:
    assert Ast().native_window_s({"max_length": 1024}, {}, 16000) == 10.24
    assert Ast().native_window_s({"max_length": 1024}, {"max_length": 100}, 16000) == 1.0, "the extractor decides"


@pytest.mark.parametrize(("window_s", "max_length"), [(10.24, 1024), (10.25, 1040), (1.0, 112), (0.05, 16)])
def test_a_new_model_has_the_whole_patches_that_hold_its_window(window_s: float, max_length: int) -> None:
    assert Ast().sized_for(window_s, SCRATCH.config) == {"max_length": max_length}


def test_the_extractor_must_make_the_spectrogram_that_the_model_takes() -> None:
    assert Ast().preprocessor_shape(SCRATCH.config) == {"num_mel_bins": 64, "max_length": 1024}
