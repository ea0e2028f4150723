"""The model that training begins with: a checkpoint with a head for the collection, or an architecture alone."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import (
    CONFIG_FILES,
    PICKLE_FILES,
    WEIGHT_FILES,
    known_classifiers,
    load_extractor,
    open_config,
    read_preprocessor,
    read_window,
    resolve,
)
from tonearm.models.config_files import LIBRARY_ERRORS
from tonearm.models.families import family_of
from tonearm.training.fit.architectures import architecture_folder, is_architecture
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class Start:
    """An architecture and where its weights are, before any are loaded.

    Attributes:
        folder: holds config.json, preprocessor_config.json and, unless ``from_scratch``, weights.
        labels: the checkpoint's own, in the order of its logits; empty where it has no classifier.
        keeps_head: whether its classifier knows exactly the collection's labels and is trained on.
        note: what a person should know about the head, or empty.
    """

    source: str
    folder: Path
    family: str
    labels: tuple[str, ...]
    sample_rate: int
    native_window_s: float | None
    min_samples: int
    keeps_head: bool
    from_scratch: bool
    note: str


def read_start(
    source: str,
    wanted: Sequence[str],
    *,
    revision: str | None = None,
    from_scratch: bool = False,
    new_head: bool = False,
) -> Start:
    """Return what training would begin with, without loading weights.

    Args:
        source: a folder, a hub id, or one of ``architectures`` with ``from_scratch``.
        wanted: the collection's labels.

    Raises:
        CheckpointError: it is missing or no audio model, has no weights, or knows only some of the labels.
    """
    if is_architecture(source) and (from_scratch or not Path(source).is_dir()):
        if not from_scratch:
            raise CheckpointError(f"{source} is an architecture without weights; add --from-scratch")
        folder = architecture_folder(source)
    else:
        patterns = CONFIG_FILES if from_scratch else CONFIG_FILES + WEIGHT_FILES + PICKLE_FILES
        # Ray Train starts its workers in another folder.
        folder = resolve(source, revision=revision, patterns=patterns).absolute()
    config = _read_config(folder, source)
    preprocessor = read_preprocessor(folder, source)
    has_weights = any(list(folder.glob(pattern)) for pattern in (*WEIGHT_FILES, *PICKLE_FILES))
    if not from_scratch and not has_weights:
        raise CheckpointError(f"{source} has no weights; give a checkpoint that has, or --from-scratch")
    window = read_window(config, preprocessor, source)
    known = _known_labels(config)
    keeps, note = False, ""
    if not from_scratch and known:
        keeps, note = _compare_labels(source, known, wanted, new_head)
    return Start(
        source,
        folder,
        config.model_type,
        known,
        window.sample_rate,
        window.native_s,
        window.min_samples,
        keeps,
        from_scratch,
        note,
    )


def load_start(
    start: Start, labels: Sequence[str], *, is_multi: bool, seed: int, window_s: float | None = None
) -> tuple[Any, Any]:
    """Return the model, with a classifier for ``labels``, and its feature extractor; the same for the same seed.

    Args:
        window_s: a spectrogram model made from scratch is made for windows of this length.

    Raises:
        CheckpointError: the weights cannot be loaded.
    """
    from transformers import AutoModelForAudioClassification
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    # A worker on another machine has no folder that this one has made.
    folder = architecture_folder(start.source) if start.from_scratch and is_architecture(start.source) else start.folder
    config = _read_config(folder, start.source)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if is_multi else "single_label_classification"
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor = load_extractor(folder)
        if start.from_scratch:
            sizes = {} if window_s is None else family_of(start.family).sized_for(window_s, config.to_dict())
            for name, value in sizes.items():
                setattr(config, name, value)
                setattr(extractor, name, value)
            return AutoModelForAudioClassification.from_config(config, dtype=torch.float32), extractor
        # Without safetensors the older format is read as plain tensors (weights_only): no code of it runs.
        has_safetensors = any(start.folder.glob("*.safetensors"))
        try:
            model, report = AutoModelForAudioClassification.from_pretrained(
                start.folder,
                config=config,
                trust_remote_code=False,
                use_safetensors=has_safetensors,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                weights_only=True,
                dtype=torch.float32,
            )
        except LIBRARY_ERRORS as error:
            raise CheckpointError(f"{start.source} cannot be loaded: {str(error).splitlines()[0]}") from None
    head = ("classifier", "projector")
    absent = [name for name in sorted(report.get("missing_keys", ())) if not name.startswith(head)]
    if absent:
        raise CheckpointError(
            f"{start.source}: {counted(len(absent), 'weight', 'of the encoder is', 'of the encoder are')} missing "
            f"({absent[0]} ...); expected a checkpoint of the family {start.family}"
        )
    return model, extractor


def _read_config(folder: Path, source: str) -> Any:
    """Return the config of a family with an audio classifier; the folder may hold a bare encoder."""
    config = open_config(folder, source)
    classifiers = known_classifiers(config.model_type)
    if config.model_type not in classifiers:
        raise CheckpointError(
            f"{source} is a {config.model_type}, which has no audio classifier; expected one of "
            f"{', '.join(sorted(classifiers))}"
        )
    return config


def _known_labels(config: Any) -> tuple[str, ...]:
    """Return the labels of a fine-tuned classifier; a bare encoder's placeholders are none."""
    architectures = getattr(config, "architectures", None) or [""]
    if "Classification" not in architectures[0]:
        return ()
    labels = tuple(str(label) for _, label in sorted((int(key), value) for key, value in config.id2label.items()))
    return () if all(label.startswith("LABEL_") for label in labels) else labels


def _compare_labels(source: str, known: tuple[str, ...], wanted: Sequence[str], new_head: bool) -> tuple[bool, str]:
    if new_head:
        return False, f"its classifier of {counted(len(known), 'label')} is replaced (--new-head)"
    if set(known) == set(wanted):
        return True, f"its classifier knows these {counted(len(known), 'label')} and is trained on"
    folded = {label.casefold() for label in known}
    shared = [label for label in wanted if label.casefold() in folded]
    if len(shared) >= 0.5 * len(wanted):
        extra = [label for label in wanted if label not in known]
        absent = [label for label in known if label not in wanted]
        raise CheckpointError(
            f"{source} and the collection share {len(shared)} labels but not all: it lacks {_some(extra)} and the "
            f"collection lacks {_some(absent)}; make them the same, or give --new-head to begin with a new classifier"
        )
    return False, f"its classifier of {counted(len(known), 'other label')} is replaced"


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "") if labels else "none"
