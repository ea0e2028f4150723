"""The model that a training begins with, before any weights are loaded: a checkpoint or a bare architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError, SourceError
from tonearm.models.checkpoint import CONFIG_FILES, PICKLE_FILES, WEIGHT_FILES, read_preprocessor, resolve
from tonearm.models.transformers_loader import read_config
from tonearm.models.window_plan import plan_windows, read_limits
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import Collection
from tonearm.training.fit.architectures import architecture_folder, is_architecture
from tonearm.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from tonearm.training.fit.initial_weights import EmptyModel

# transformers names the labels of a classifier that was made without any LABEL_0, LABEL_1 and so on.
PLACEHOLDER = "LABEL_"


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """A model to begin with: its architecture and the location of its weights.

    Attributes:
        name: as it was given: a folder, a hub id or an architecture.
        folder: has config.json, preprocessor_config.json and, unless ``from_scratch``, weights.
        labels: the labels of its classifier, in the order of its logits; empty without a classifier to train further.
        trained_window_s: always None, since a training chooses its own windows.
        hop_s: always None, since training windows do not overlap.
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
        """Return the folder with its config on this machine. For an architecture each process makes its own."""
        return architecture_folder(self.name) if self.from_scratch and is_architecture(self.name) else self.folder


@dataclasses.dataclass(frozen=True)
class HeadChoice:
    """The classifier of a training.

    Attributes:
        labels: in the order of its logits.
        is_kept: whether it is that of the initial model, which has exactly the collection's labels.
        note: a line about it for the user, or empty.
    """

    labels: tuple[str, ...]
    is_kept: bool
    note: str


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """The model that a training begins with, and what it becomes for a collection.

    Attributes:
        windows: how clips are cut.
        empty: the model with its classifier for the labels, without weights.
    """

    initial: InitialModel
    head: HeadChoice
    windows: WindowPlan
    empty: EmptyModel


def choose_model(initial: InitialModel, collection: Collection, settings: TrainSettings) -> ModelChoice:
    """Return the model with a classifier for the collection's labels, judged by the headers of its files.

    Raises:
        UsageError: a model that cannot be trained on these clips.
    """
    head = choose_head(initial, collection.labels, new_head=settings.new_head)
    windows = windows_of(initial, settings)
    from tonearm.training.fit.initial_weights import Classifier, empty_model  # torch

    empty = empty_model(initial, Classifier(head.labels, collection.is_multi, settings.window_s))
    return ModelChoice(initial, head, windows, empty)


def read_initial_model(source: str, *, revision: str | None = None, from_scratch: bool = False) -> InitialModel:
    """Return the model that a training would begin with, without loading weights.

    Args:
        source: a folder, a hub id, or one of ``architectures`` with ``from_scratch``.

    Raises:
        CheckpointError: it is missing, is not an audio model, or has no weights.
    """
    # A folder of that name is what the user means, unless --from-scratch says otherwise.
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
    """Return the classifier for ``labels``: the initial model's if it has exactly these labels, else a new one.

    Raises:
        CheckpointError: it has some of the labels but not all, and ``new_head`` is not set.
    """
    model_labels, collection_labels = initial.labels, tuple(labels)
    if not model_labels:
        return HeadChoice(collection_labels, is_kept=False, note="")
    if new_head:
        return HeadChoice(
            collection_labels,
            is_kept=False,
            note=f"its classifier of {counted(len(model_labels), 'label')} is replaced (--new-head)",
        )
    if set(model_labels) == set(labels):
        note = f"its classifier knows these {counted(len(model_labels), 'label')} and is trained on"
        return HeadChoice(model_labels, is_kept=True, note=note)
    # Half of the labels or more in common suggests a spelling mistake, which a new classifier would hide.
    folded_labels = {label.casefold() for label in model_labels}
    shared = [label for label in labels if label.casefold() in folded_labels]
    if len(shared) >= 0.5 * len(labels):
        unknown_labels = [label for label in labels if label not in model_labels]
        missing_labels = [label for label in model_labels if label not in labels]
        raise CheckpointError(
            f"{initial.name} and the collection share {len(shared)} labels but not all: it lacks "
            f"{_first_labels(unknown_labels)} and the collection lacks {_first_labels(missing_labels)}; make them the "
            "same, or give --new-head to begin with a new classifier"
        )
    note = f"its classifier of {counted(len(model_labels), 'other label')} is replaced"
    return HeadChoice(collection_labels, is_kept=False, note=note)


def windows_of(initial: InitialModel, settings: TrainSettings) -> WindowPlan:
    """Return the windows that clips are cut into, by the same rule as tracks when tagging.

    Raises:
        SourceError: the windows are longer than the model takes.
    """
    window_s, longest_s = settings.window_s, initial.native_window_s
    if window_s is not None and longest_s is not None and window_s > longest_s and not initial.from_scratch:
        raise SourceError(
            f"got --window-s {window_s:g} for {initial.name}, expected at most {longest_s:g} s, which is all that the "
            "checkpoint takes at once"
        )
    if window_s is not None:
        # At least what the model needs for one frame of its output.
        window_s = max(window_s, initial.min_samples / initial.sample_rate)
    return plan_windows(initial, window_s, settings.max_windows, is_resizable=initial.from_scratch)


def _classifier_labels(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the labels of a fine-tuned classifier; empty for a bare encoder, whose labels are placeholders."""
    architectures = getattr(config, "architectures", None) or [""]
    if "Classification" not in architectures[0]:
        return ()
    id2label = sorted((int(key), value) for key, value in (config.id2label or {}).items())
    labels = tuple(str(label) for _, label in id2label)
    return () if all(label.startswith(PLACEHOLDER) for label in labels) else labels


def _first_labels(labels: Sequence[str]) -> str:
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "") if labels else "none"
