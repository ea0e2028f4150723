"""How long a model's windows are, and how a head cuts a track into them; tagging and training share these rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError
from tonearm.models import config_files, families

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# If neither the settings nor the model say how long a window is.
DEFAULT_WINDOW_S = 30.0


class TakesWindows(Protocol):
    """What decides a model's windows: a ``CheckpointInfo``, or the model that a training begins with."""

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
    """Which windows a model takes; see ``CheckpointInfo``."""

    sample_rate: int
    native_s: float | None
    min_samples: int


def read_limits(config: PreTrainedConfig, preprocessor: dict[str, Any], source: str) -> WindowLimits:
    """Return which windows a model takes, by its family's rules.

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
        window_s: the requested length; by default the one the model was trained on, else its own, else 30 s.
        is_resizable: whether the model is yet to be made, for windows of any length. Otherwise its own length, if it
            has one, is the longest.

    Raises:
        CheckpointError: ``window_s`` is shorter than one frame.
    """
    native = model.native_window_s
    lengths = (window_s, model.trained_window_s, native, DEFAULT_WINDOW_S)
    length = next(value for value in lengths if value is not None)
    if native is not None and not is_resizable:
        # Most extractors would cut off what is longer, so that part of the track would never be scored.
        length = min(length, native)
    samples = round(length * model.sample_rate)
    if samples < model.min_samples:
        raise CheckpointError(
            f"got a window of {length:g} s for {model.name}, expected at least "
            f"{model.min_samples / model.sample_rate:g} s"
        )
    # The model's hop is for its own window. With a shorter requested window it would leave gaps, so it is at most one.
    hop = samples if model.hop_s is None else max(1, min(samples, round(model.hop_s * model.sample_rate)))
    return WindowPlan(model.sample_rate, samples, hop, max_windows, model.min_samples)
