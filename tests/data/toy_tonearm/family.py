"""A model that transformers does not have: a linear layer over the loudness of the parts of a window."""

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tonearm.models.families import ScratchConfig
from tonearm.models.families.default import DefaultFamily


class ToyConfig(PretrainedConfig):
    model_type = "toy"
    hidden_size: int = 16


class ToyForAudioClassification(PreTrainedModel):
    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.projector = torch.nn.Identity()  # the default embedding is the mean over time of what goes in here
        self.post_init()

    def forward(self, input_values: torch.Tensor) -> SequenceClassifierOutput:
        loudness = torch.nn.functional.adaptive_avg_pool1d(input_values.abs()[:, None], self.config.hidden_size)
        return SequenceClassifierOutput(logits=self.classifier(self.projector(loudness).mean(dim=1)))


class Toy(DefaultFamily):
    def classifier(self) -> type[PreTrainedModel]:
        return ToyForAudioClassification

    def scratch_config(self) -> ScratchConfig:
        extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "feature_size": 1}
        return ScratchConfig({"hidden_size": 16}, {**extractor, "do_normalize": False, "padding_value": 0.0})
