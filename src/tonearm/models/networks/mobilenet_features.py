"""The log-mel spectrogram of EfficientAT (arXiv:2211.04772) as transformers' feature extractors are, in numpy.

The reference of ``tonearm.models.features.EmphasizedLogMel``, and what ``transformers.pipeline`` runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import spectrogram, window_function

from tonearm.models.features import LOG_OFFSET, kaldi_filters
from tonearm.models.networks.log_mel_extractor import Floats, LogMelExtractor


class MobileNetAudioFeatureExtractor(LogMelExtractor):
    """Pre-emphasis, power spectra of centred frames, Kaldi's mel bands, logarithm, ``(x - mean) / std``.

    Args:
        win_length: samples of the Hann window, in the middle of a frame of ``n_fft``.
        max_length: frames of the longest window; shorter ones are not padded.

    Raises:
        ValueError: sizes or frequencies that no spectrogram has.
    """

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 32000,
        padding_value: float = 0.0,
        num_mel_bins: int = 128,
        hop_length: int = 320,
        win_length: int = 800,
        n_fft: int = 1024,
        min_frequency: float = 0.0,
        max_frequency: float = 15000.0,
        preemphasis: float = 0.97,
        mean: float = -4.5,
        std: float = 5.0,
        max_length: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if win_length > n_fft:
            raise ValueError(f"win_length is {win_length}, expected at most n_fft, {n_fft}")
        if not 0 <= min_frequency < max_frequency <= sampling_rate / 2:
            raise ValueError(
                f"got mel bands from {min_frequency:g} to {max_frequency:g} Hz, expected ones from 0 to half of the "
                f"sampling_rate, {sampling_rate / 2:g} Hz"
            )
        self.num_mel_bins, self.hop_length, self.win_length, self.n_fft = num_mel_bins, hop_length, win_length, n_fft
        self.min_frequency, self.max_frequency, self.preemphasis = min_frequency, max_frequency, preemphasis
        self.mean, self.std, self.max_length = mean, std, max_length

    def log_mel(self, waveform: NDArray[np.floating[Any]]) -> Floats:
        """Return float32 [mel bins, frames]."""
        waveform = np.asarray(waveform, np.float64)
        mel = spectrogram(
            waveform[1:] - self.preemphasis * waveform[:-1],
            window_function(self.win_length, "hann", periodic=False, frame_length=self.n_fft, center=True),
            frame_length=self.n_fft,
            hop_length=self.hop_length,
            power=2.0,
            mel_filters=kaldi_filters(
                self.n_fft, self.num_mel_bins, self.sampling_rate, self.min_frequency, self.max_frequency
            ),
            mel_floor=0.0,
        )
        normal: Floats = ((np.log(mel + LOG_OFFSET) - self.mean) / self.std).astype(np.float32)
        return normal
