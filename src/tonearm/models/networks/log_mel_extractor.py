"""What the extractors of log-mel spectrograms have in common: waveforms in, one spectrogram each, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature, SequenceFeatureExtractor

Floats = NDArray[np.float32]


class LogMelExtractor(SequenceFeatureExtractor):
    """Takes waveforms of one length as transformers' extractors do; ``log_mel`` says what is made of each."""

    model_input_names = ("input_features",)

    def __call__(
        self, raw_speech: Floats | Sequence[Floats], sampling_rate: int | None = None, **options: Any
    ) -> BatchFeature:
        """Return ``input_features`` [B, ...] of waveforms of one length, each as ``log_mel`` gives it.

        Raises:
            ValueError: a rate that is not the model's.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(f"got sound at {sampling_rate} Hz, expected {self.sampling_rate} Hz")
        waveforms = [raw_speech] if np.ndim(raw_speech[0]) == 0 else raw_speech
        made = [self.log_mel(np.asarray(waveform)) for waveform in waveforms]
        return BatchFeature({"input_features": made}, tensor_type=options.get("return_tensors"))

    def log_mel(self, waveform: NDArray[np.floating[Any]]) -> Floats:
        """Return the spectrogram of one waveform."""
        raise NotImplementedError
