"""The log-mel spectrogram of musicnn (arXiv:1909.06654) as transformers' feature extractors are, in numpy.

The reference of ``tonearm.models.features.MusicnnLogMel``, and what ``transformers.pipeline`` runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import spectrogram, window_function

from tonearm.models.features import LOG_SCALE, slaney_filters
from tonearm.models.networks.log_mel_extractor import Floats, LogMelExtractor


class MusicnnFeatureExtractor(LogMelExtractor):
    """Power spectra of centred Hann frames, Slaney's mel bands, rounding to float16, ``log10(1 + 10000 mel)``.

    Args:
        max_length: frames that are made; what a longer window has after them is left out, and a shorter one's are
            repeated from the first, as in training.
    """

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        num_mel_bins: int = 96,
        n_fft: int = 512,
        hop_length: int = 256,
        max_length: int = 187,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.num_mel_bins, self.n_fft, self.hop_length, self.max_length = num_mel_bins, n_fft, hop_length, max_length

    def log_mel(self, waveform: NDArray[np.floating[Any]]) -> Floats:
        """Return float32 [frames, mel bins]."""
        mel = spectrogram(
            np.asarray(waveform, np.float32),
            window_function(self.n_fft, "hann"),
            frame_length=self.n_fft,
            hop_length=self.hop_length,
            power=2.0,
            pad_mode="reflect",
            mel_filters=slaney_filters(self.n_fft, self.num_mel_bins, self.sampling_rate),
            mel_floor=0.0,
        ).T[:-1]  # without the last frame, half of which is padding
        # The published models were trained on features that were rounded to float16 here.
        rounded = mel[np.arange(self.max_length) % len(mel)].astype(np.float16).astype(np.float32)
        logarithms: Floats = np.log10(1 + LOG_SCALE * rounded)
        return logarithms
