"""Model families by ``model_type``: how long a window is, which features a model takes, where its embedding is.

``family`` has the contract. Other packages add families by entry points of the group ``tonearm.families``; any other
``model_type`` is a ``DefaultFamily``. Nothing here loads torch or transformers before a model is loaded.
"""

from __future__ import annotations

from tonearm.models.families.ast import Ast
from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import Family as Family
from tonearm.models.families.family import ScratchConfig as ScratchConfig
from tonearm.models.families.mobilenet_audio import MobileNetAudio
from tonearm.models.families.musicnn import Musicnn
from tonearm.models.families.wav2vec2_bert import Wav2Vec2Bert
from tonearm.models.families.waveform import Waveform
from tonearm.models.families.whisper import Whisper
from tonearm.plugins import Registry

OWN: dict[str, Family] = {
    "hubert": Waveform(do_stable_layer_norm=True),
    "wav2vec2": Waveform(),
    "wavlm": Waveform(),
    "data2vec-audio": Waveform(),
    "unispeech": Waveform(),
    "unispeech-sat": Waveform(),
    "wav2vec2-conformer": Waveform(),
    "sew": Waveform(squeeze_factor=2),
    "sew-d": Waveform(squeeze_factor=2, max_position_embeddings=64, position_buckets=16),
    "wav2vec2-bert": Wav2Vec2Bert(),
    "whisper": Whisper(),
    "audio-spectrogram-transformer": Ast(),
    "mobilenet_audio": MobileNetAudio(),
    "musicnn": Musicnn(),
}
FAMILIES: Registry[Family] = Registry(
    "tonearm.families", "model family", OWN, Family, make=lambda family_class: family_class()
)
_DEFAULT = DefaultFamily()


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``.

    Raises:
        PluginError: a package adds it and cannot be used.
    """
    return FAMILIES.get(model_type) or _DEFAULT
