"""Checks of a checkpoint's JSON files before transformers reads them.

The files come from strangers. transformers follows them to code, kernels and other repositories, and values that it
does not expect end in arbitrary Python errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm.errors import CheckpointError

if TYPE_CHECKING:
    pass

# What transformers and torch raise for files that they do not expect; any of these is the file's fault.
LIBRARY_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError),
)
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# Any other name makes transformers fetch code: "owner/kernel" is a repository on the hub.
ATTENTIONS = ("eager", "sdpa")
# By key: what it asks of transformers, and what the user can do instead.
REFUSED = {
    "auto_map": ("names code of its own, which is never run", "save the model with a family that transformers has"),
    "quantization_config": ("says that its weights are quantized", "save it with plain weights"),
    "compression_config": ("says that its weights are compressed", "save it with plain weights"),
}
# Far above any published model. Making layers takes time even without memory, and a config may ask for a billion.
LARGEST, MOST_LAYERS = 1_000_000, 1000
LAYERS = ("num_hidden_layers", "encoder_layers", "num_attention_heads", "encoder_attention_heads")
SIZES = (
    *("hidden_size", "intermediate_size", "classifier_proj_size", "d_model", "encoder_ffn_dim", "patch_size"),
    *("frequency_stride", "time_stride", "num_mel_bins", "max_length", "max_source_positions", "squeeze_factor"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "feature_projection_input_dim"),
)
CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")
RATES_HZ = (1000, 384_000)
COUNTS = (
    *("feature_size", "num_mel_bins", "max_length", "hop_length", "win_length", "n_fft", "n_samples"),
    *("nb_max_frames", "chunk_length", "stride"),
)
NUMBERS = ("mean", "std", "padding_value", "dither", "preemphasis", "min_frequency", "max_frequency")
SWITCHES = ("do_normalize", "return_attention_mask")


def read_object(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds.

    Raises:
        CheckpointError: it cannot be read, or holds something else than an object.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {_short(values)}, expected a JSON object; save the model again")
    return values


def check_is_model(folder: Path, source: str) -> None:
    """Refuse an adapter, such as one of the package peft, and a folder of other things.

    Raises:
        CheckpointError: the folder holds no model of its own.
    """
    # Its config names another repository, which transformers would load instead.
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{source} is an adapter for another model; give a model that it was merged into")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{source} holds no model; expected {CONFIG} with model.safetensors, as save_pretrained writes them, or an "
            "exported graph that `tonearm models add` has described"
        )


def check_config(values: Mapping[str, Any], place: Path | str) -> None:
    """Refuse a ``config.json`` that asks for code, or that no model can have.

    Args:
        place: what messages call the file.

    Raises:
        CheckpointError: with what was got and expected.
    """
    _check_code(values, place)
    for name in LAYERS:
        _check_count(values, name, place, MOST_LAYERS)
    for name in SIZES:
        _check_count(values, name, place, LARGEST)
    given = {name: values[name] for name in CONVOLUTIONS if values.get(name) is not None}
    for name, sizes in given.items():
        if not isinstance(sizes, list) or not all(_is_count(value, LARGEST) for value in sizes):
            raise CheckpointError(f"{place}: {name} is {_short(sizes)}, expected a list of whole numbers from 1")
    if len({len(sizes) for sizes in given.values()}) > 1:
        lengths = ", ".join(f"{len(sizes)} of {name}" for name, sizes in given.items())
        raise CheckpointError(f"{place}: got {lengths}, expected one of each for every convolution")
    labels = values.get("id2label")
    if labels is not None and not isinstance(labels, Mapping):
        raise CheckpointError(f"{place}: id2label is {_short(labels)}, expected an object of numbers and labels")
    for number, label in (labels or {}).items():
        if not (number.isascii() and number.isdigit()) or not isinstance(label, str | int):
            raise CheckpointError(
                f"{place}: id2label has {_short(number)}: {_short(label)}, expected a number and its label"
            )


def check_preprocessor(values: Mapping[str, Any], place: Path | str) -> None:
    """Refuse a ``preprocessor_config.json`` that asks for code, or that describes no audio.

    Args:
        place: what messages call the file.

    Raises:
        CheckpointError: with what was got and expected.
    """
    _check_code(values, place)
    rate = values.get("sampling_rate", 16000)
    if not isinstance(rate, int) or isinstance(rate, bool) or not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise CheckpointError(
            f"{place}: sampling_rate is {_short(rate)}, expected a whole number of Hz from {RATES_HZ[0]:,} to "
            f"{RATES_HZ[1]:,}"
        )
    # Lengths in samples may be larger than any layer.
    for name in COUNTS:
        _check_count(values, name, place, 100 * LARGEST)
    for name in NUMBERS:
        value = values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not is_number:
            raise CheckpointError(f"{place}: {name} is {_short(value)}, expected a number")
    if values.get("std") == 0:
        raise CheckpointError(f"{place}: std is 0, expected a number that can be divided by")
    for name in SWITCHES:
        if not isinstance(values.get(name), bool | None):
            raise CheckpointError(f"{place}: {name} is {_short(values[name])}, expected true or false")


def check_pair(expected: Mapping[str, int], preprocessor: Mapping[str, Any], source: str) -> None:
    """Refuse an extractor whose spectrograms have another shape than the model takes.

    Args:
        expected: what the model's family wants to be there.

    Raises:
        CheckpointError: with both shapes.
    """
    for name, value in expected.items():
        stated = preprocessor.get(name)
        if stated is not None and stated != value:
            raise CheckpointError(
                f"{source}: {PREPROCESSOR} has {name} {stated}, expected {value} as in {CONFIG}; they belong to "
                "different models"
            )


def _check_code(values: Mapping[str, Any], place: Path | str) -> None:
    for name, (what, advice) in REFUSED.items():
        if values.get(name):
            raise CheckpointError(f"{place} {what} ({name} is {_short(values[name])}); {advice}")
    for name, implementation in _implementations(values):
        if implementation is not None and implementation not in ATTENTIONS:
            raise CheckpointError(
                f"{place}: {name} is {_short(implementation)}, expected {' or '.join(ATTENTIONS)}: code for it is "
                f"never fetched; remove {name} from the file"
            )


def _implementations(values: object) -> Iterator[tuple[str, Any]]:
    """Yield the keys that name the implementation of a layer, with their values, also in nested configs."""
    parts = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for name, value in parts:
        if isinstance(name, str) and ("attn_implementation" in name or "experts_implementation" in name):
            yield name, value if isinstance(value, str | None) else json.dumps(value)
        else:
            yield from _implementations(value)


def _check_count(values: Mapping[str, Any], name: str, place: Path | str, largest: int) -> None:
    count = values.get(name)
    if count is not None and not _is_count(count, largest):
        raise CheckpointError(f"{place}: {name} is {_short(count)}, expected a whole number from 1 to {largest:,}")


def _is_count(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
