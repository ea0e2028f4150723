"""The description that an exported graph needs before it can score: the part ``model`` of ``tonearm.json``.

::

    {"schema": 1,
     "model": {"file": "yamnet.tflite",
               "front_end": {"kind": "waveform", "sample_rate": 16000},
               "window_s": 0.975, "hop_s": 0.4875, "padding": "zeros",
               "layout": ["samples"],
               "labels": ["Speech", "Child speech, kid speaking", ...],
               "activation": "none", "multi_label": true,
               "scores_output": "Identity", "embedding_output": null,
               "licence": "Apache-2.0"}}

Keys that this tonearm does not know are ignored, and kept by whatever rewrites the file.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

Activation = Literal["none", "sigmoid", "softmax"]
Padding = Literal["zeros", "repeat"]
Log = Literal["ln", "log10", "db", "none"]
WAVEFORM, LOG_MEL = "waveform", "log-mel"
# The axes that a graph's input may have, each once; ``channel`` has the size 1.
WAVEFORM_AXES, MEL_AXES = ("batch", "channel", "samples"), ("batch", "channel", "mel", "frames")
SUFFIXES = (".onnx", ".tflite", ".xml")
RATES_HZ = (1000, 384_000)
LARGEST = 1_000_000
MAX_WINDOW_S = 3600.0
MIN_WINDOW_S = 0.025


@dataclasses.dataclass(frozen=True)
class WaveformFrontEnd:
    """For a graph that takes samples.

    Attributes:
        sample_rate: Hz.
        scale: what samples in [-1, 1] are multiplied by; 32768 where the graph was made for 16-bit numbers.
        normalize: bring each window to zero mean and unit variance first.
    """

    sample_rate: int
    scale: float = 1.0
    normalize: bool = False


@dataclasses.dataclass(frozen=True)
class LogMelFrontEnd:
    """For a graph that takes a log-mel spectrogram, as ``librosa.feature.melspectrogram`` computes it.

    A value is ``(log(max(log_multiplier * mel + log_offset, log_floor)) - mean) / std``.

    Attributes:
        sample_rate: Hz.
        n_fft, win_length, hop_length: samples; ``win_length`` is ``n_fft`` where it is None.
        window: the taper's name, as scipy has it.
        f_min, f_max: Hz; half the rate where ``f_max`` is None.
        norm: ``slaney`` for bands of equal area, None for bands whose top is 1.
        power: of the magnitude: 2 for power, 1 for magnitude.
        center, pad_mode: whether frames are centred at multiples of the hop, and what is beyond the ends.
        log: ``ln``, ``log10``, ``db`` (ten times ``log10``) or ``none``.
        top_db: with ``db``, nothing of a window lies further below its largest value; None for no limit.
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    num_mel_bins: int
    win_length: int | None = None
    window: Literal["hann", "hamming", "blackman"] = "hann"
    f_min: float = 0.0
    f_max: float | None = None
    mel_scale: Literal["htk", "slaney"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    power: float = 2.0
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    log: Log = "ln"
    log_multiplier: float = 1.0
    log_offset: float = 0.0
    log_floor: float = 1e-10
    top_db: float | None = None
    mean: float = 0.0
    std: float = 1.0

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a window of ``num_samples``."""
        return max(0, 1 + (num_samples - self.samples_of(1)) // self.hop_length)

    def samples_of(self, num_frames: int) -> int:
        """Return the smallest number of samples that gives ``num_frames``."""
        # Centred frames reach half of n_fft beyond both ends, which is padded and need not be there.
        beside = 2 * (self.n_fft // 2) if self.center else 0
        return (num_frames - 1) * self.hop_length + self.n_fft - beside


FrontEnd = WaveformFrontEnd | LogMelFrontEnd
FRONT_ENDS: Mapping[str, type[WaveformFrontEnd] | type[LogMelFrontEnd]] = {
    WAVEFORM: WaveformFrontEnd,
    LOG_MEL: LogMelFrontEnd,
}


@dataclasses.dataclass(frozen=True)
class Description:
    """What an exported graph takes, and what its outputs mean.

    Attributes:
        file: the graph's name, in the same folder.
        window_s: seconds that one pass scores; the graph's input must have that size.
        hop_s: seconds between two windows' starts; None for no overlap.
        padding: what follows a window that is shorter: ``zeros``, or ``repeat`` for the window itself again.
        layout: the axes of the graph's input, in order; None if its shape leaves no doubt.
        labels: in the order of the scores.
        activation: what is still to be applied to the scores; ``none`` if the graph ends in one.
        multi_label: whether labels are independent of each other; None to go by the activation.
        scores_output, embedding_output: an output's place or name, or the name of a tensor inside the graph. By default
            the output with as many numbers as there are labels, and the input of the last matrix product.
        licence: of the file, an SPDX identifier if there is one.
    """

    file: str
    front_end: FrontEnd
    window_s: float
    labels: tuple[str, ...]
    activation: Activation
    hop_s: float | None = None
    padding: Padding = "zeros"
    layout: tuple[str, ...] | None = None
    multi_label: bool | None = None
    scores_output: int | str | None = None
    embedding_output: int | str | None = None
    licence: str | None = None

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.front_end.sample_rate

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return round(self.window_s * self.sample_rate)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that the graph's input may have."""
        return WAVEFORM_AXES if isinstance(self.front_end, WaveformFrontEnd) else MEL_AXES


def to_json(description: Description) -> dict[str, Any]:
    """Return the part ``model`` of ``tonearm.json``."""
    kind = next(name for name, made in FRONT_ENDS.items() if isinstance(description.front_end, made))
    values = dataclasses.asdict(description)
    return {**values, "front_end": {"kind": kind, **values["front_end"]}}


def essence(description: Description) -> dict[str, Any]:
    """Return the values that differ from the defaults, which identify a description."""
    # Without the defaults it stays the same when a later version adds a field, and so do revisions of models.
    values = _not_default(description)
    return {**values, "front_end": [type(description.front_end).__name__, _not_default(description.front_end)]}


def _not_default(value: Description | FrontEnd) -> dict[str, Any]:
    fields = {field.name: field.default for field in dataclasses.fields(value)}
    return {name: getattr(value, name) for name, default in fields.items() if getattr(value, name) != default}


def parse(values: object) -> Description:
    """Return the description in a part ``model``.

    Raises:
        ValueError: a value is missing or impossible.
    """
    values = _mapping(values, "model")
    file = values.get("file")
    if not isinstance(file, str) or not file.endswith(SUFFIXES) or re.search(r"[/\\\0]", file):
        raise ValueError(
            f"file is {file!r:.60}, expected the name of an {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
        )
    if values.get("front_end") is None:
        raise ValueError(
            f'has no front_end, and nothing else says what {file} takes; give {{"kind": "{WAVEFORM}", "sample_rate": '
            f'16000}} or {{"kind": "{LOG_MEL}", ...}} with its parameters'
        )
    given = {name: value for name, value in values.items() if name not in ("front_end", "labels", "layout")}
    made: dict[str, Any] = {
        "front_end": _front_end(values["front_end"]),
        "labels": _labels(values.get("labels")),
        "layout": None if values.get("layout") is None else tuple(_texts(values["layout"], "layout")),
    }
    description = Description(**_fields(Description, given, "", tuple(made)), **made)
    _check(description)
    return description


def _front_end(values: object) -> FrontEnd:
    values = _mapping(values, "front_end")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in FRONT_ENDS:
        raise ValueError(f"front_end.kind is {kind!r:.40}, expected {' or '.join(FRONT_ENDS)}")
    front_end = FRONT_ENDS[kind](**_fields(FRONT_ENDS[kind], values, "front_end."))
    check_front_end(front_end)
    return front_end


def check_front_end(front_end: FrontEnd) -> None:
    """Refuse parameters that no front end can have.

    Raises:
        ValueError: with what was got and expected.
    """
    if not RATES_HZ[0] <= front_end.sample_rate <= RATES_HZ[1]:
        raise ValueError(f"sample_rate is {front_end.sample_rate}, expected {RATES_HZ[0]:,} to {RATES_HZ[1]:,} Hz")
    if isinstance(front_end, WaveformFrontEnd):
        return
    for name in ("n_fft", "hop_length", "num_mel_bins", "win_length"):
        value = getattr(front_end, name)
        if value is not None and not 1 <= value <= LARGEST:
            raise ValueError(f"{name} is {value}, expected a whole number from 1")
    if (front_end.win_length or 1) > front_end.n_fft:
        raise ValueError(f"win_length is {front_end.win_length}, expected at most n_fft, {front_end.n_fft}")
    half = front_end.sample_rate / 2
    if not 0 <= front_end.f_min < (front_end.f_max or half) <= half:
        raise ValueError(f"got mel bands from {front_end.f_min:g} to {front_end.f_max:g} Hz, expected 0 to {half:g} Hz")
    if front_end.std == 0 or front_end.power <= 0:
        raise ValueError("std and power must be above 0")
    if front_end.log != "none" and front_end.log_floor <= 0 and front_end.log_offset <= 0:
        raise ValueError("silence has no logarithm; expected log_floor or log_offset above 0")


def _check(description: Description) -> None:
    if not MIN_WINDOW_S <= description.window_s <= MAX_WINDOW_S:
        raise ValueError(f"window_s is {description.window_s:g}, expected {MIN_WINDOW_S:g} to {MAX_WINDOW_S:g} s")
    hop_s = description.hop_s
    if hop_s is not None and not 1 / description.sample_rate <= hop_s <= description.window_s:
        raise ValueError(f"hop_s is {hop_s:g}, expected more than 0 and at most window_s, {description.window_s:g}")
    front_end = description.front_end
    if isinstance(front_end, LogMelFrontEnd) and description.window_samples <= front_end.n_fft // 2:
        raise ValueError(f"window_s is {description.window_s:g}, expected more than half of n_fft, {front_end.n_fft}")
    if description.layout is not None:
        check_layout(description.layout, description.axes)


def check_layout(layout: tuple[str, ...], axes: tuple[str, ...]) -> None:
    """Refuse axes that an input of this front end cannot have.

    Raises:
        ValueError: with what was got and expected.
    """
    needed = [axis for axis in axes if axis not in ("batch", "channel")]
    if len(set(layout)) != len(layout) or not set(needed) <= set(layout) <= set(axes):
        raise ValueError(
            f"layout is {', '.join(layout)}, expected {' and '.join(needed)}, and batch and channel where the graph "
            "has them"
        )


def _fields(kind: type, values: Mapping[str, Any], where: str, elsewhere: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return those of ``values`` that ``kind`` has, each of its type."""
    hints, typed = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in elsewhere:
            continue
        value = values.get(field.name)
        if field.name not in values:
            if field.default is dataclasses.MISSING:
                raise ValueError(f"has no {where}{field.name}")
            continue
        typed[field.name] = _typed(value, hints[field.name], f"{where}{field.name}")
    return typed


def _typed(value: object, hint: object, name: str) -> object:
    choices = get_args(hint)
    if isinstance(hint, type):
        choices = (hint,)
    elif any(get_args(choice) for choice in choices):  # Literal[...] | None
        choices = tuple(option for choice in choices for option in (get_args(choice) or (choice,)))
    for choice in choices:
        if choice is type(None) and value is None:
            return None
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        # By ``type``, not isinstance: True is an int, and must not pass for a number.
        if isinstance(choice, type):
            if choice in (int, str, bool) and type(value) is choice:
                return value
        elif type(value) is type(choice) and value == choice:
            return value
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    expected = [words.get(choice, str(choice)) if isinstance(choice, type) else str(choice) for choice in choices]
    raise ValueError(f"{name} is {value!r:.60}, expected {' or '.join(dict.fromkeys(expected))}")


def _labels(value: object) -> tuple[str, ...]:
    labels = tuple(_texts(value, "labels"))
    check_labels(labels)
    return labels


def check_labels(labels: tuple[str, ...]) -> None:
    """Refuse an empty list of labels, and a label that is there twice.

    Raises:
        ValueError: with the label.
    """
    if not labels:
        raise ValueError("has no labels")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"has the label {twice!r:.60} more than once, expected distinct labels")


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{name} is {value!r:.60}, expected a list of texts")
    return list(value)


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r:.60}, expected an object")
    return value
