"""musicnn: a CNN whose first filters are as tall as timbres and as long as rhythms, on log-mel spectrograms.

Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging" (arXiv:1909.06654);
equal to the graph of the package musicnn 0.1.0 within 1e-4 (tests/unit/models/networks/test_musicnn.py). Letters in
shapes: B windows, T frames, M mel bands, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tonearm.models.networks.musicnn_features import MusicnnFeatureExtractor as MusicnnFeatureExtractor

MODEL_TYPE = "musicnn"
# Shares of the mel bands that one timbral filter sees, and frames that one temporal filter sees.
TIMBRAL_SHARES, TIMBRAL_FRAMES = (0.4, 0.7), 7
TEMPORAL_FRAMES = (128, 64, 32)
NUM_MIDEND, MIDEND_FRAMES = 3, 7
# TensorFlow's values, with which the published models were trained; torch's differ.
NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01
DROPOUT = 0.5


class MusicnnConfig(PreTrainedConfig):
    """The values of ``config.json``; ``hidden_size`` is the length of the penultimate layer, the embedding."""

    model_type = MODEL_TYPE

    num_mel_bins: int = 96
    max_length: int = 187
    timbral_channels: int = 204
    temporal_channels: int = 51
    midend_channels: int = 64
    hidden_size: int = 200


class Front(nn.Module):
    """One kind of filter of the front end: convolution, ReLU, batch norm, the maximum over all mel bands.

    Args:
        frames: of a filter; zeros are added before and after, one more after where they are even.
        bands: of a filter.
    """

    def __init__(self, channels: int, frames: int, bands: int) -> None:
        super().__init__()
        self.before, self.after = (frames - 1) // 2, frames // 2
        self.conv = nn.Conv2d(1, channels, (frames, bands))
        self.norm = nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, C, T] of [B, 1, T, M]."""
        padded = nn.functional.pad(values, (0, 0, self.before, self.after))
        # Channels last: a pass in torch takes 0.75 of the time.
        padded = padded.contiguous(memory_format=torch.channels_last)
        if self.training:
            pooled: Tensor = self.norm(torch.relu(self.conv(padded))).amax(dim=3)
            return pooled
        # The same result with the maximum taken first: ReLU and norm are monotonic in the convolution, falling if the
        # norm's weight is negative. So they are applied to a sixtieth of the numbers or fewer.
        sign = torch.where(self.norm.weight < 0, -1.0, 1.0).to(self.norm.weight)[:, None, None, None]
        highest = nn.functional.conv2d(padded, self.conv.weight * sign).amax(dim=3, keepdim=True) * sign[:, 0]
        convolved = highest if self.conv.bias is None else highest + self.conv.bias[:, None, None]
        normal: Tensor = self.norm(torch.relu(convolved))
        return normal.squeeze(3)


class Midend(nn.Module):
    """One layer between front and back end: convolution over time, ReLU, batch norm."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(*channels, MIDEND_FRAMES, padding=MIDEND_FRAMES // 2)
        self.norm = nn.BatchNorm1d(channels[1], eps=NORM_EPS, momentum=NORM_MOMENTUM)

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, C, T]."""
        normal: Tensor = self.norm(torch.relu(self.conv(values)))
        return normal


class MusicnnForAudioClassification(PreTrainedModel):
    """The classifier; its embedding is what ``embedding_norm`` gives, the published ``penultimate``."""

    config_class = MusicnnConfig
    main_input_name = "input_features"

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__(config)
        self.input_norm = nn.BatchNorm2d(1, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        heights = [max(1, int(share * config.num_mel_bins)) for share in TIMBRAL_SHARES]
        self.timbral = nn.ModuleList(Front(config.timbral_channels, TIMBRAL_FRAMES, height) for height in heights)
        self.temporal = nn.ModuleList(Front(config.temporal_channels, frames, 1) for frames in TEMPORAL_FRAMES)
        front = config.timbral_channels * len(self.timbral) + config.temporal_channels * len(self.temporal)
        width = config.midend_channels
        self.midend = nn.ModuleList(Midend((width if place else front, width)) for place in range(NUM_MIDEND))
        pooled = 2 * (front + width * NUM_MIDEND)
        self.pool_norm = nn.BatchNorm1d(pooled, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.projector = nn.Linear(pooled, config.hidden_size)
        self.embedding_norm = nn.BatchNorm1d(config.hidden_size, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 0)
        self.post_init()

    def forward(self, input_features: Tensor) -> SequenceClassifierOutput:
        """Return logits [B, labels] of log-mel spectrograms [B, T, M] of any length."""
        values = self.input_norm(input_features[:, None])
        layers = [torch.cat([filters(values) for filters in (*self.timbral, *self.temporal)], dim=1)]
        for place, layer in enumerate(self.midend):
            inner = layer(layers[-1])
            layers.append(inner + layers[-1] if place else inner)
        features = torch.cat(layers, dim=1)
        # Maximum and mean alternate by channel, in the order of the published weights.
        pooled = torch.stack([features.amax(dim=2), features.mean(dim=2)], dim=2).flatten(1)
        hidden = torch.relu(self.projector(self.dropout(self.pool_norm(pooled))))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(self.embedding_norm(hidden))))
