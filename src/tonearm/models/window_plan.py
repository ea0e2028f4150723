"""How long a window a model takes, and how a head with it cuts a track: the one rule, for tagging and for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError
from tonearm.models import config_files, families

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Where neither a person nor the model says how long a window is.
DEFAULT_WINDOW_S = 30.0


class TakesWindows(Protocol):
    """A model as far as its windows go: ``CheckpointInfo``, or what a training begins with."""

    @property
    def name(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def native_window_s(self) -> float | None: ...
    @property
    def min_samples(self) -> int: ...
    @property
    def trained_window_s(self) -> float | None: ...
    @property
    def hop_s(self) -> float | None: ...


class WindowLimits(NamedTuple):
    """How long a window a model takes; see ``CheckpointInfo``."""

    sample_rate: int
    native_s: float | None
    min_samples: int


def read_limits(config: PreTrainedConfig, preprocessor: dict[str, Any], source: str) -> WindowLimits:
    """Return how long a window a model takes, as its family says.

    Raises:
        CheckpointError: the two files belong to different models.
    """
    family, values = families.family_of(config.model_type), config.to_dict()
    rate = int(preprocessor.get("sampling_rate", 16000))
    with families.FAMILIES.using(config.model_type):
        config_files.check_pair(family.preprocessor_shape(values), preprocessor, source)
        return WindowLimits(rate, family.native_window_s(values, preprocessor, rate), family.min_samples(values))


def plan_windows(
    model: TakesWindows, window_s: float | None, max_windows: int | None, *, is_resizable: bool = False
) -> WindowPlan:
    """Return how a head with this model cuts a track.

    Args:
        window_s: the asked length; by default the one the model was trained on, its own, or 30 s.
        is_resizable: whether the model is still to be made, for windows of any length; else one with a length of its
            own takes no longer one.

    Raises:
        CheckpointError: ``window_s`` is shorter than one frame.
    """
    native = model.native_window_s
    lengths = (window_s, model.trained_window_s, native, DEFAULT_WINDOW_S)
    length = next(value for value in lengths if value is not None)
    if native is not None and not is_resizable:
        length = min(length, native)
    samples = round(length * model.sample_rate)
    if samples < model.min_samples:
        raise CheckpointError(
            f"got a window of {length:g} s for {model.name}, expected at least "
            f"{model.min_samples / model.sample_rate:g} s"
        )
    # A model's own hop goes with its own window; a shorter one that somebody asks for would leave gaps.
    hop = samples if model.hop_s is None else max(1, min(samples, round(model.hop_s * model.sample_rate)))
    return WindowPlan(model.sample_rate, samples, hop, max_windows, model.min_samples)
