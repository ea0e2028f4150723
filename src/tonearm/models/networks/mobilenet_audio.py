"""MobileNetV3 on log-mel spectrograms: the network of MobileNetV3 (arXiv:1905.02244) as EfficientAT has it for sound.

Source: Schmid et al., "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation"
(arXiv:2211.04772): the large MobileNetV3 on one channel, widths 0.1 to 4 times its own, squeeze-and-excitation over
channels with a sigmoid, and two linear layers after the mean over time and frequency. Letters in shapes: B windows,
M mel bins, T frames, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

MODEL_TYPE = "mobilenet_audio"
WIDEST = 10.0
# Channels are multiples of 8, as in MobileNet, and at least nine tenths of the requested number.
MULTIPLE, LEAST_SHARE = 8, 0.9
STEM_CHANNELS, LAST_CHANNELS = 16, 1280
LAST_EXPANSION, SQUEEZED_SHARE = 6, 4


class Block(NamedTuple):
    """One row of table 1 of MobileNetV3: channels at width 1."""

    kernel: int
    expanded: int
    channels: int
    has_squeeze: bool
    activation: type[nn.Module]
    stride: int


BLOCKS = (
    Block(3, 16, 16, False, nn.ReLU, 1),
    Block(3, 64, 24, False, nn.ReLU, 2),
    Block(3, 72, 24, False, nn.ReLU, 1),
    Block(5, 72, 40, True, nn.ReLU, 2),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(3, 240, 80, False, nn.Hardswish, 2),
    Block(3, 200, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 480, 112, True, nn.Hardswish, 1),
    Block(3, 672, 112, True, nn.Hardswish, 1),
    Block(5, 672, 160, True, nn.Hardswish, 2),
    Block(5, 960, 160, True, nn.Hardswish, 1),
    Block(5, 960, 160, True, nn.Hardswish, 1),
)


class MobileNetAudioConfig(PreTrainedConfig):
    """The values of ``config.json``; ``hidden_size``, of the embedding, follows from ``width``.

    Raises:
        ValueError: a width that no model has.
    """

    model_type = MODEL_TYPE

    width: float = 1.0
    num_mel_bins: int = 128
    max_length: int = 1000
    norm_momentum: float = 0.01
    norm_eps: float = 1e-3
    dropout: float = 0.2
    hidden_size: int = 960

    def __post_init__(self, **kwargs: object) -> None:
        if not 0 < self.width <= WIDEST:
            raise ValueError(f"width is {self.width}, expected a number above 0 and up to {WIDEST:g}")
        self.hidden_size = LAST_EXPANSION * scaled(BLOCKS[-1].channels, self.width)
        super().__post_init__(**kwargs)


def scaled(channels: int, width: float) -> int:
    """Return the number of channels at ``width``: the nearest multiple of 8, and not under nine tenths of it."""
    return whole_eights(channels * width)


def whole_eights(channels: float) -> int:
    """Return the nearest multiple of 8 from 8, the next one up where that is less than nine tenths."""
    nearest = max(MULTIPLE, int(channels + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return nearest if nearest >= LEAST_SHARE * channels else nearest + MULTIPLE


class Convolution(nn.Module):
    """A convolution that keeps the size but for its stride, its batch norm, and what comes after them."""

    def __init__(
        self,
        config: MobileNetAudioConfig,
        channels: tuple[int, int],
        activation: type[nn.Module] | None,
        *,
        kernel: int = 1,
        stride: int = 1,
        is_depthwise: bool = False,
    ) -> None:
        super().__init__()
        groups = channels[0] if is_depthwise else 1
        self.conv = nn.Conv2d(*channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels[1], eps=config.norm_eps, momentum=config.norm_momentum)
        self.activation = nn.Identity() if activation is None else activation()

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, C, M / stride, T / stride]."""
        activated: Tensor = self.activation(self.norm(self.conv(values)))
        return activated


class Squeeze(nn.Module):
    """Squeeze-and-excitation (arXiv:1709.01507): each channel weighted by what the means of all of them say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = whole_eights(channels // SQUEEZED_SHARE)
        self.down, self.up = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, values: Tensor) -> Tensor:
        """Return the same shape."""
        weights = torch.sigmoid(self.up(torch.relu(self.down(values.mean(dim=(2, 3))))))
        return values * weights[:, :, None, None]


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, weight the channels, project; added to what came in where that fits."""

    def __init__(self, config: MobileNetAudioConfig, block: Block, channels: int) -> None:
        super().__init__()
        expanded, out = scaled(block.expanded, config.width), scaled(block.channels, config.width)
        is_wider = expanded != channels
        self.expand = Convolution(config, (channels, expanded), block.activation) if is_wider else None
        self.depthwise = Convolution(
            config,
            (expanded, expanded),
            block.activation,
            kernel=block.kernel,
            stride=block.stride,
            is_depthwise=True,
        )
        self.squeeze = Squeeze(expanded) if block.has_squeeze else None
        self.project = Convolution(config, (expanded, out), None)
        self.is_residual = block.stride == 1 and channels == out

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, C, M / stride, T / stride]."""
        inner = values if self.expand is None else self.expand(values)
        inner = self.depthwise(inner)
        if self.squeeze is not None:
            inner = self.squeeze(inner)
        inner = self.project(inner)
        return values + inner if self.is_residual else inner


class MobileNetAudioForAudioClassification(PreTrainedModel):
    """The classifier; its embedding is the mean over time and frequency that ``projector`` takes."""

    config_class = MobileNetAudioConfig
    main_input_name = "input_features"

    def __init__(self, config: MobileNetAudioConfig) -> None:
        super().__init__(config)
        channels = scaled(STEM_CHANNELS, config.width)
        self.stem = Convolution(config, (1, channels), nn.Hardswish, kernel=3, stride=2)
        self.blocks = nn.ModuleList(_blocks(config, channels))
        last = scaled(BLOCKS[-1].channels, config.width)
        self.head = Convolution(config, (last, config.hidden_size), nn.Hardswish)
        wide = scaled(LAST_CHANNELS, config.width)
        self.projector = nn.Linear(config.hidden_size, wide)
        self.activation, self.dropout = nn.Hardswish(), nn.Dropout(config.dropout)
        self.classifier = nn.Linear(wide, config.num_labels or 0)
        self.post_init()

    def forward(self, input_features: Tensor) -> SequenceClassifierOutput:
        """Return logits [B, labels] of log-mel spectrograms [B, M, T] of any length."""
        # Channels last: on processors a training step takes 0.56 of the time, and a pass 0.7 to 0.9 (bench/NOTES.md).
        values = self.stem(input_features[:, None]).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            values = block(values)
        embedding = self.head(values).mean(dim=(2, 3))
        wide = self.dropout(self.activation(self.projector(embedding)))
        return SequenceClassifierOutput(logits=self.classifier(wide))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            # The fan of one output channel. torch's own counts all channels of a depthwise convolution, and after
            # fifteen such blocks only 1e-7 of the input is left (bench/NOTES.md).
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            init.normal_(module.weight, mean=0.0, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=0.01)


def _blocks(config: MobileNetAudioConfig, channels: int) -> Iterator[InvertedResidual]:
    for block in BLOCKS:
        yield InvertedResidual(config, block, channels)
        channels = scaled(block.channels, config.width)
