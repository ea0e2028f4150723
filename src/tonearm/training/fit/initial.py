"""The model that a training begins with, before any weights are loaded: a checkpoint, or an architecture alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import CONFIG_FILES, PICKLE_FILES, WEIGHT_FILES, read_preprocessor, resolve
from tonearm.models.transformers_loader import read_config
from tonearm.models.window_plan import read_limits
from tonearm.training.fit.architectures import architecture_folder, is_architecture
from tonearm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# What a classifier made without labels calls them.
PLACEHOLDER = "LABEL_"


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """An architecture and where its weights are.

    Attributes:
        name: as it was given: a folder, a hub id or an architecture.
        folder: holds config.json, preprocessor_config.json and, unless ``from_scratch``, weights.
        labels: its classifier's own, in the order of its logits; empty where it has no classifier to train on.
        trained_window_s: always None, since a training chooses its windows itself.
        hop_s: None: a training cuts its windows end to end.
    """

    name: str
    folder: Path
    family: str
    labels: tuple[str, ...]
    sample_rate: int
    native_window_s: float | None
    min_samples: int
    from_scratch: bool
    trained_window_s: float | None = None
    hop_s: float | None = None

    def config_folder(self) -> Path:
        """Return where its config is on this machine: an architecture's folder is made by each process."""
        return architecture_folder(self.name) if self.from_scratch and is_architecture(self.name) else self.folder


@dataclasses.dataclass(frozen=True)
class HeadChoice:
    """The classifier that a training goes on with.

    Attributes:
        labels: in the order of its logits.
        is_kept: whether it is the initial model's own, which knows exactly the collection's labels.
        note: what a person should know about it, or empty.
    """

    labels: tuple[str, ...]
    is_kept: bool
    note: str


def read_initial_model(source: str, *, revision: str | None = None, from_scratch: bool = False) -> InitialModel:
    """Return what a training would begin with, without loading weights.

    Args:
        source: a folder, a hub id, or one of ``architectures`` with ``from_scratch``.

    Raises:
        CheckpointError: it is missing or no audio model, or has no weights.
    """
    if is_architecture(source) and (from_scratch or not Path(source).is_dir()):
        if not from_scratch:
            raise CheckpointError(f"{source} is an architecture without weights; add --from-scratch")
        folder = architecture_folder(source)
    else:
        patterns = CONFIG_FILES if from_scratch else CONFIG_FILES + WEIGHT_FILES + PICKLE_FILES
        # Ray Train starts its workers in another folder, where a relative path would lead elsewhere.
        folder = resolve(source, revision=revision, patterns=patterns).absolute()
    config = read_config(folder, source, may_be_encoder=True)
    preprocessor = read_preprocessor(folder, source)
    has_weights = any(list(folder.glob(pattern)) for pattern in (*WEIGHT_FILES, *PICKLE_FILES))
    if not from_scratch and not has_weights:
        raise CheckpointError(f"{source} has no weights; give a checkpoint that has, or --from-scratch")
    limits = read_limits(config, preprocessor, source)
    labels = () if from_scratch else _classifier_labels(config)
    return InitialModel(
        source,
        folder,
        config.model_type,
        labels,
        limits.sample_rate,
        limits.native_s,
        limits.min_samples,
        from_scratch,
    )


def choose_head(initial: InitialModel, labels: Sequence[str], *, new_head: bool = False) -> HeadChoice:
    """Return the classifier for ``labels``: the initial model's own where it knows just these, else a new one.

    Raises:
        CheckpointError: it knows some of the labels but not all, and nobody has said what to do.
    """
    known, new = initial.labels, tuple(labels)
    if not known:
        return HeadChoice(new, is_kept=False, note="")
    if new_head:
        return HeadChoice(
            new, is_kept=False, note=f"its classifier of {counted(len(known), 'label')} is replaced (--new-head)"
        )
    if set(known) == set(labels):
        note = f"its classifier knows these {counted(len(known), 'label')} and is trained on"
        return HeadChoice(known, is_kept=True, note=note)
    folded = {label.casefold() for label in known}
    shared = [label for label in labels if label.casefold() in folded]
    if len(shared) >= 0.5 * len(labels):
        extra = [label for label in labels if label not in known]
        absent = [label for label in known if label not in labels]
        raise CheckpointError(
            f"{initial.name} and the collection share {len(shared)} labels but not all: it lacks {_some(extra)} and "
            f"the collection lacks {_some(absent)}; make them the same, or give --new-head to begin with a new "
            "classifier"
        )
    note = f"its classifier of {counted(len(known), 'other label')} is replaced"
    return HeadChoice(new, is_kept=False, note=note)


def _classifier_labels(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the labels of a fine-tuned classifier; a bare encoder's placeholders are none."""
    architectures = getattr(config, "architectures", None) or [""]
    if "Classification" not in architectures[0]:
        return ()
    id2label = sorted((int(key), value) for key, value in (config.id2label or {}).items())
    labels = tuple(str(label) for _, label in id2label)
    # transformers names the labels of a model without any LABEL_0, LABEL_1 and so on.
    return () if all(label.startswith(PLACEHOLDER) for label in labels) else labels


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "") if labels else "none"
