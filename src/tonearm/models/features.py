"""From waveforms to model inputs, in batches, in torch on the model's device.

Each equals the checkpoint's own transformers extractor within 1e-3 (tests/parity/test_score_parity.py). Letters in
shapes: B windows, S samples, T frames, F frequency bins, M mel bins.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from tonearm.models.networks.mobilenet_features import MobileNetAudioFeatureExtractor
    from tonearm.models.networks.musicnn_features import MusicnnFeatureExtractor

# transformers' ASTFeatureExtractor: 25 ms Hann frames each 10 ms at 16 kHz, in an FFT of 512.
FRAME, HOP, FFT, PREEMPHASIS = 400, 160, 512, 0.97
MEL_FLOOR = 1.192092955078125e-07
# EfficientAT adds this to the power of a mel band before the logarithm (arXiv:2211.04772).
LOG_OFFSET = 1e-5
# musicnn: log10(1 + 10000 mel), with mel rounded to float16. This is the largest number of float16; what is above it
# would become infinite.
LOG_SCALE, LARGEST_HALF = 10_000, 65504.0


def build_features(extractor: Any) -> nn.Module:
    """Return the batched equal of a transformers feature extractor: ``[B, S] -> {name: tensor}``."""
    kind = EQUALS.get(type(extractor).__name__)
    # Dither is random noise, so an equal of the extractor could not be compared with it.
    if kind is None or getattr(extractor, "dither", False):
        return OwnExtractor(extractor)
    return kind.of(extractor)


def save_features(features: Features, path: Path) -> None:
    """Write what ``build_features`` returned, so that ``load_features`` needs no transformers."""
    settings = {"kind": type(features).__name__, "settings": json.dumps(features.settings)}
    tensors = {name: value.contiguous() for name, value in features.named_buffers() if name == "filters"}
    save_file(tensors, path, metadata=settings)


def load_features(path: Path) -> Features:
    """Return what ``save_features`` wrote."""
    with safe_open(path, "pt") as file:
        described = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kind = {features_class.__name__: features_class for features_class in EQUALS.values()}[described["kind"]]
    return kind(**tensors, **json.loads(described["settings"]))


def kaldi_filters(
    fft: int, num_mel_bins: int, sample_rate: int, lowest_hz: float, highest_hz: float
) -> NDArray[np.float64]:
    """Return Kaldi's mel bands over power spectra [F, M]: triangles on the mel scale, their tops at 1."""
    scale = {"mel_scale": "kaldi", "norm": None, "triangularize_in_mel_space": True}
    return _mel_filters(fft, num_mel_bins, sample_rate, lowest_hz, highest_hz, scale)


def slaney_filters(fft: int, num_mel_bins: int, sample_rate: int) -> NDArray[np.float64]:
    """Return librosa's mel bands over power spectra [F, M]: Slaney's scale, triangles of equal area."""
    scale = {"mel_scale": "slaney", "norm": "slaney"}
    return _mel_filters(fft, num_mel_bins, sample_rate, 0.0, sample_rate / 2, scale)


def _mel_filters(
    fft: int, num_mel_bins: int, sample_rate: int, lowest_hz: float, highest_hz: float, scale: Mapping[str, Any]
) -> NDArray[np.float64]:
    # Not at the top: features that were saved need no transformers, whose import takes half a second.
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        # It warns of narrow bands that no frequency bin falls into; Kaldi and librosa have them too.
        warnings.simplefilter("ignore")
        filters: NDArray[np.float64] = mel_filter_bank(
            num_frequency_bins=fft // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=lowest_hz,
            max_frequency=highest_hz,
            sampling_rate=sample_rate,
            **scale,
        )
    return filters


def _normalized(windows: Tensor) -> Tensor:
    mean = windows.mean(dim=1, keepdim=True)
    variance = windows.var(dim=1, keepdim=True, correction=0)
    return (windows - mean) / torch.sqrt(variance + 1e-7)


class Features(nn.Module):
    """A feature extractor of tonearm's, which can be made again from its ``settings`` and filters.

    ``length_axis`` is the axis of its output that is as long as the window; None if windows are padded to one length.
    With ``pads_sound`` training pads the shorter windows of a batch with silence, otherwise their features with zeros.
    """

    settings: dict[str, Any]
    length_axis: int | None = None
    pads_sound = False

    @classmethod
    def of(cls, extractor: Any) -> Features:
        """Return the equal of a transformers extractor."""
        raise NotImplementedError


class RawWaveform(Features):
    """Wav2Vec2FeatureExtractor: the waveform itself, of zero mean and unit variance where the checkpoint wants it."""

    length_axis = 1

    def __init__(self, *, do_normalize: bool, return_attention_mask: bool) -> None:
        super().__init__()
        self.do_normalize, self.return_attention_mask = do_normalize, return_attention_mask
        self.settings = {"do_normalize": do_normalize, "return_attention_mask": return_attention_mask}

    @classmethod
    def of(cls, extractor: Any) -> RawWaveform:
        """Return the equal of a transformers extractor."""
        has_mask = bool(getattr(extractor, "return_attention_mask", False))
        return cls(do_normalize=bool(extractor.do_normalize), return_attention_mask=has_mask)

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return ``input_values`` [B, S]."""
        return {"input_values": _normalized(windows) if self.do_normalize else windows}

    def of_array(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what ``forward`` does, within 1e-6."""
        # numpy takes 0.04 ms of processor time for 5 s of sound, torch 0.24 (bench/NOTES.md).
        if not self.do_normalize:
            return windows
        made = np.empty_like(windows)
        for window, normal in zip(windows, made, strict=True):
            np.subtract(window, window.mean(), out=normal)
            normal /= np.sqrt(np.square(normal).mean() + np.float32(1e-7))
        return made


class AstFilterbank(Features):
    """ASTFeatureExtractor: Kaldi's log-mel filterbank.

    Args:
        filters: float32 [F, M].
    """

    def __init__(self, filters: Tensor, *, max_length: int, mean: float, spread: float) -> None:
        super().__init__()
        self.settings = {"max_length": max_length, "mean": mean, "spread": spread}
        self.max_length, self.mean, self.spread = max_length, mean, spread
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False), persistent=False)

    @classmethod
    def of(cls, extractor: Any) -> AstFilterbank:
        """Return the equal of a transformers extractor."""
        rate = extractor.sampling_rate
        filters = kaldi_filters(FFT, extractor.num_mel_bins, rate, 20, rate // 2)
        # (x - mean) / (2 std): the factor of two is the reference's.
        mean, spread = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)
        return cls(torch.from_numpy(filters).float(), max_length=int(extractor.max_length), mean=mean, spread=spread)

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return ``input_values`` [B, max_length, M]."""
        frames = windows[:, : FRAME + HOP * (self.max_length - 1)].unfold(1, FRAME, HOP)  # [B, T, FRAME]
        frames = frames - frames.mean(dim=2, keepdim=True)
        # Kaldi's pre-emphasis within the frame: its first sample is its own predecessor.
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * self.window, n=FFT)
        power = spectrum.real.square() + spectrum.imag.square()  # [B, T, F]
        mel = (power @ self.filters).clamp_min(MEL_FLOOR).log()  # [B, T, M]
        # Padded after the logarithm, as the reference does: zero there is not silence.
        mel = nn.functional.pad(mel, (0, 0, 0, self.max_length - mel.shape[1]))
        return {"input_values": (mel - self.mean) / self.spread}


class WhisperLogMel(Features):
    """WhisperFeatureExtractor: the log-mel of 30 s, shorter windows padded with silence.

    Args:
        filters: float32 [F, M].
    """

    def __init__(self, filters: Tensor, *, num_samples: int, fft: int, hop: int, do_normalize: bool) -> None:
        super().__init__()
        self.settings = {"num_samples": num_samples, "fft": fft, "hop": hop, "do_normalize": do_normalize}
        self.num_samples, self.fft, self.hop, self.do_normalize = num_samples, fft, hop, do_normalize
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self.fft), persistent=False)

    @classmethod
    def of(cls, extractor: Any) -> WhisperLogMel:
        """Return the equal of a transformers extractor."""
        return cls(
            torch.as_tensor(extractor.mel_filters).float(),
            num_samples=int(extractor.n_samples),
            fft=int(extractor.n_fft),
            hop=int(extractor.hop_length),
            do_normalize=bool(getattr(extractor, "do_normalize", False)),
        )

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return ``input_features`` [B, M, T]."""
        windows = windows[:, : self.num_samples]
        if self.do_normalize:
            windows = _normalized(windows)
        windows = nn.functional.pad(windows, (0, self.num_samples - windows.shape[1]))
        # The reference leaves the last frame out: it would be the 3001st of 30 s.
        spectrum = torch.stft(windows, self.fft, self.hop, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()  # [B, F, T]
        mel = (self.filters.T @ power.contiguous()).clamp_min(1e-10).log10()
        # Nothing is more than 80 dB below the loudest value of the window, as in the reference.
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return {"input_features": (mel + 4.0) / 4.0}


class EmphasizedLogMel(Features):
    """MobileNetAudioFeatureExtractor: the log-mel of the pre-emphasized waveform, as long as the window.

    Args:
        filters: float32 [F, M].
        taper: samples of the Hann window, in the middle of a frame of ``fft``.
    """

    length_axis = 2
    # As its authors train: after normalization a feature of zero is loud, not silent.
    pads_sound = True

    def __init__(
        self, filters: Tensor, *, fft: int, taper: int, hop: int, preemphasis: float, mean: float, spread: float
    ) -> None:
        super().__init__()
        self.settings = {"fft": fft, "taper": taper, "hop": hop}
        self.settings |= {"preemphasis": preemphasis, "mean": mean, "spread": spread}
        self.fft, self.hop, self.preemphasis, self.mean, self.spread = fft, hop, preemphasis, mean, spread
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(taper, periodic=False), persistent=False)

    @classmethod
    def of(cls, extractor: MobileNetAudioFeatureExtractor) -> EmphasizedLogMel:
        """Return the equal of an extractor."""
        fft, bins, rate = int(extractor.n_fft), int(extractor.num_mel_bins), int(extractor.sampling_rate)
        filters = kaldi_filters(fft, bins, rate, extractor.min_frequency, extractor.max_frequency)
        return cls(
            torch.from_numpy(filters).float(),
            fft=fft,
            taper=int(extractor.win_length),
            hop=int(extractor.hop_length),
            preemphasis=float(extractor.preemphasis),
            mean=float(extractor.mean),
            spread=float(extractor.std),
        )

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return ``input_features`` [B, M, T], a frame each ``hop`` samples."""
        emphasized = windows[:, 1:] - self.preemphasis * windows[:, :-1]
        taper = len(self.window)
        spectrum = torch.stft(emphasized, self.fft, self.hop, taper, self.window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()  # [B, F, T]
        mel = (self.filters.T @ power.contiguous() + LOG_OFFSET).log()
        return {"input_features": (mel - self.mean) / self.spread}


class MusicnnLogMel(Features):
    """MusicnnFeatureExtractor: the log-mel of whole frames, those of a short window repeated from the first.

    Args:
        filters: float32 [F, M].
    """

    def __init__(self, filters: Tensor, *, fft: int, hop: int, max_length: int) -> None:
        super().__init__()
        self.settings = {"fft": fft, "hop": hop, "max_length": max_length}
        self.fft, self.hop, self.max_length = fft, hop, max_length
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(fft), persistent=False)

    @classmethod
    def of(cls, extractor: MusicnnFeatureExtractor) -> MusicnnLogMel:
        """Return the equal of an extractor."""
        fft, hop = int(extractor.n_fft), int(extractor.hop_length)
        filters = slaney_filters(fft, int(extractor.num_mel_bins), int(extractor.sampling_rate))
        return cls(torch.from_numpy(filters).float(), fft=fft, hop=hop, max_length=int(extractor.max_length))

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return ``input_features`` [B, max_length, M]."""
        spectrum = torch.stft(windows, self.fft, self.hop, window=self.window, pad_mode="reflect", return_complex=True)
        # Without the last frame, half of which is padding.
        spectrum = spectrum[..., : max(1, min(spectrum.shape[2] - 1, self.max_length))]
        power = spectrum.real.square() + spectrum.imag.square()  # [B, F, T]
        # The published models were trained on features that were rounded to float16 here.
        mel = (self.filters.T @ power.contiguous()).clamp_max(LARGEST_HALF).half().float()
        frames = (LOG_SCALE * mel + 1).log10().transpose(1, 2)  # [B, T, M]
        if frames.shape[1] < self.max_length:
            frames = frames[:, torch.arange(self.max_length, device=frames.device) % frames.shape[1]]
        return {"input_features": frames}


class OwnExtractor(nn.Module):
    """The checkpoint's own extractor, on the CPU, for families without an equal here."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return whatever the extractor makes of the windows."""
        clips = [window.numpy() for window in windows.cpu().float()]
        batch = self.extractor(clips, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        return {name: value.to(windows.device) for name, value in batch.items()}


# By the extractor's class. Only these can be saved and used with OpenVINO: a file must not name code to be loaded.
EQUALS: dict[str, type[Features]] = {
    "ASTFeatureExtractor": AstFilterbank,
    "MobileNetAudioFeatureExtractor": EmphasizedLogMel,
    "MusicnnFeatureExtractor": MusicnnLogMel,
    "Wav2Vec2FeatureExtractor": RawWaveform,
    "WhisperFeatureExtractor": WhisperLogMel,
}
