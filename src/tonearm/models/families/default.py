"""Any family of transformers' ``AutoModelForAudioClassification`` that has no file of its own here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tonearm.models.families.family import FRAME_SAMPLES, ScratchConfig, Values

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor


class DefaultFamily:
    """Windows of any length, the checkpoint's own extractor, and the mean hidden state before the projector."""

    is_convolutional = False

    def classifier(self) -> type[PreTrainedModel] | None:
        """Return None: transformers has it."""
        return None

    def extractor(self) -> type[SequenceFeatureExtractor] | None:
        """Return None: transformers has it."""
        return None

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return None: any length."""
        return None

    def min_samples(self, config: Values) -> int:
        """Return the samples that one output of the convolutions sees, where there are some."""
        field, jump = 1, 1
        for kernel, stride in zip(config.get("conv_kernel") or (), config.get("conv_stride") or (), strict=True):
            field, jump = field + (kernel - 1) * jump, jump * stride
        return max(FRAME_SAMPLES, field)

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return nothing: a waveform has no shape but its length."""
        return {}

    def scratch_config(self) -> ScratchConfig | None:
        """Return None: nothing is known of it."""
        return None

    def sized_for(self, window_s: float, config: Values) -> Mapping[str, int]:
        """Return nothing: it takes any length."""
        return {}

    def features(self, extractor: SequenceFeatureExtractor) -> nn.Module:
        """Return the batched equal of the extractor where there is one, else the extractor itself."""
        from tonearm.models.features import build_features

        return build_features(extractor)

    def watch_embedding(self, model: PreTrainedModel, keep: Callable[[Tensor], None]) -> None:
        """Keep the mean over time of what the projector takes."""
        projector = model.get_submodule("projector")
        projector.register_forward_pre_hook(lambda module, inputs: keep(inputs[0].mean(dim=1)))
