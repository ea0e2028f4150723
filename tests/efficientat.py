"""A file of EfficientAT's published layout, what its network says, and the spectrogram that it takes."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

RATE, LABELS = 32000, ("siren", "rain", "piano")
FAMILY = "mobilenet_audio"


# Table 1 of MobileNetV3 (arXiv:1905.02244), written again: kernel, expanded, out, squeeze, hard swish, stride.
TABLE = [
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
]


def eights(channels: float) -> int:
    nearest = max(8, 8 * int(channels / 8 + 0.5))
    return nearest if nearest >= 0.9 * channels else nearest + 8


class Published:
    """A file of the published layout, and what its network says, by the tensors' names alone."""

    def __init__(self, width: float, num_outputs: int, seed: int = 0) -> None:
        self.width, self.tensors = width, dict[str, Tensor]()
        self.generator = torch.Generator().manual_seed(seed)
        channels = eights(16 * width)
        self._conv("features.0", channels, 1, 3)
        for number, (kernel, expanded, out, squeeze, _, _) in enumerate(TABLE, 1):
            expanded, out, place = eights(expanded * width), eights(out * width), 0
            if expanded != channels:
                self._conv(f"features.{number}.block.0", expanded, channels, 1)
                place += 1
            self._conv(f"features.{number}.block.{place}", expanded, 1, kernel)
            if squeeze:
                place += 1
                middle = f"features.{number}.block.{place}.conc_se_layers.0"
                self._linear(f"{middle}.fc1", eights(expanded // 4), expanded)
                self._linear(f"{middle}.fc2", expanded, eights(expanded // 4))
            self._conv(f"features.{number}.block.{place + 1}", out, expanded, 1)
            channels = out
        self._conv("features.16", 6 * channels, channels, 1)
        self._linear("classifier.2", eights(1280 * width), 6 * channels)
        self._linear("classifier.5", num_outputs, eights(1280 * width))

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _conv(self, name: str, out: int, into: int, kernel: int) -> None:
        self.tensors[f"{name}.0.weight"] = self._random(out, into, kernel, kernel) * (2 / (into * kernel**2)) ** 0.5
        self.tensors[f"{name}.1.weight"] = 1 + 0.1 * self._random(out)
        self.tensors[f"{name}.1.bias"] = 0.1 * self._random(out)
        self.tensors[f"{name}.1.running_mean"] = 0.1 * self._random(out)
        self.tensors[f"{name}.1.running_var"] = 1 + 0.2 * self._random(out).abs()
        self.tensors[f"{name}.1.num_batches_tracked"] = torch.tensor(7)

    def _linear(self, name: str, out: int, into: int) -> None:
        self.tensors[f"{name}.weight"] = self._random(out, into) / into**0.5
        self.tensors[f"{name}.bias"] = 0.1 * self._random(out)

    def _layer(self, values: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.0.weight"]
        values = functional.conv2d(values, weight, None, stride, (weight.shape[-1] - 1) // 2, 1, groups)
        parts = [self.tensors[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(values, *parts, eps=0.001)

    def _dense(self, values: Tensor, name: str) -> Tensor:
        return values @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def says(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embedding of [B, M, T], as the paper describes the network."""
        values = functional.hardswish(self._layer(spectrogram[:, None], "features.0", 2))
        for number, (_, _, _, squeeze, is_swish, stride) in enumerate(TABLE, 1):
            name, inner = f"features.{number}.block", values
            activate = functional.hardswish if is_swish else functional.relu
            places = len({key.split(".")[3] for key in self.tensors if key.startswith(f"{name}.")})
            place = places - (3 if squeeze else 2)
            if place:
                inner = activate(self._layer(inner, f"{name}.0"))
            inner = activate(self._layer(inner, f"{name}.{place}", stride, inner.shape[1]))
            if squeeze:
                gate = functional.relu(self._dense(inner.mean((2, 3)), f"{name}.{place + 1}.conc_se_layers.0.fc1"))
                inner = inner * self._dense(gate, f"{name}.{place + 1}.conc_se_layers.0.fc2").sigmoid()[..., None, None]
            inner = self._layer(inner, f"{name}.{places - 1}")
            values = values + inner if stride == 1 and values.shape == inner.shape else inner
        embedding = functional.hardswish(self._layer(values, "features.16")).mean((2, 3))
        return self._dense(functional.hardswish(self._dense(embedding, "classifier.2")), "classifier.5"), embedding


def log_mel(waveform: NDArray[np.float32]) -> Tensor:
    """Return the paper's spectrogram by Kaldi's formulas and librosa's transform, [1, 128, T]."""
    emphasized = waveform[1:].astype(np.float64) - 0.97 * waveform[:-1]
    taper = np.zeros(1024)
    taper[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    spectrum = librosa.stft(
        emphasized, n_fft=1024, hop_length=320, window=taper, pad_mode="reflect", dtype=np.complex128
    )

    def mel(hz: Any) -> Any:
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(0.0), mel(15000.0), 130)
    bins = mel(np.arange(513) * RATE / 1024)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    power = np.maximum(0, np.minimum(rising, falling)) @ np.abs(spectrum) ** 2
    return torch.from_numpy((np.log(power + 1e-5) + 4.5) / 5).float()[None]
