"""Hugging Face audio classifiers: what a folder or hub id holds, and its weights.

Any architecture of transformers' ``AutoModelForAudioClassification``. Weights are safetensors unless the caller
insists; code from a checkpoint is never run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import huggingface_hub  # loads of itself only what is named, so names are not imported from it
from safetensors import SafetensorError

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError, first_line
from tonearm.models import calibration, config_files, families
from tonearm.models.calibration import Companion, read_companion
from tonearm.models.config_files import CONFIG, LIBRARY_ERRORS, PREPROCESSOR
from tonearm.models.musicnn import named
from tonearm.models.openvino import cache
from tonearm.models.stored_weights import check_classifier, check_fit, read_shapes, unfit
from tonearm.storage.download import local_copy
from tonearm.wording import counted

if TYPE_CHECKING:
    from transformers import FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel

CONFIG_FILES = [CONFIG, PREPROCESSOR]
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json"]
PICKLE_FILES = ["*.bin", "*.bin.index.json"]


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """A classifier, described without loading its weights.

    Attributes:
        name: the hub id or the folder's name.
        revision: the hub's commit, or ``sha256:`` and 16 digits over the folder's files.
        family: the config's ``model_type``.
        labels: in the order of the logits.
        sample_rate: Hz.
        native_window_s: the only length the model takes (10.24 for AST, 30 for Whisper), or None for any.
        min_samples: the shortest window that gives one frame.
        embedding_dim: of the pooled hidden state.
        num_parameters: as stored, or None where only pickled weights are there.
        multi_label: whether the config says that labels are independent.
        companion: what ``tonearm train`` and ``tonearm evaluate`` left beside it.
    """

    name: str
    revision: str
    family: str
    labels: tuple[str, ...]
    sample_rate: int
    native_window_s: float | None
    min_samples: int
    embedding_dim: int
    num_parameters: int | None
    multi_label: bool
    companion: Companion = dataclasses.field(default_factory=Companion)


def describe_checkpoint(source: str, *, revision: str | None = None) -> CheckpointInfo:
    """Return what ``source`` holds; reads configs and the weights' header, and for a folder their bytes for the hash.

    Args:
        source: a folder, here or in an object store, or a hub id.
        revision: a branch, tag or commit of the hub id.

    Raises:
        CheckpointError: missing, not an audio classifier, or without the files it needs.
    """
    folder = resolve(source, revision=revision, patterns=[*CONFIG_FILES, calibration.FILE])
    name = source if is_hub_id(source) else folder.resolve().name
    digest = folder.name if is_hub_id(source) else _folder_hash(folder)
    config_files.check_is_model(folder, source)
    if (found := cache.find(folder, digest)) is not None:  # loads no transformers
        companion = read_companion(folder)
        try:
            described = found.description | {"labels": tuple(found.description["labels"])}
            return CheckpointInfo(name=name, revision=digest, companion=companion, **described)
        except (LookupError, TypeError) as error:
            raise CheckpointError(
                f"{found.folder}/facts.json does not describe a model ({error}); delete that folder"
            ) from None
    config, preprocessor = read_config(folder, source), read_preprocessor(folder, source)
    labels, shapes = read_labels(config, source), read_shapes(folder)
    check_classifier(shapes, labels, source)
    window = read_window(config, preprocessor, source)
    return CheckpointInfo(
        name=name,
        revision=digest,
        family=config.model_type,
        labels=labels,
        sample_rate=window.sample_rate,
        native_window_s=window.native_s,
        min_samples=window.min_samples,
        embedding_dim=int(config.hidden_size),
        num_parameters=sum(map(math.prod, shapes.values())) or None,
        multi_label=config.problem_type == "multi_label_classification",
        companion=read_companion(folder),
    )


def plan_windows(info: CheckpointInfo, window_s: float | None, max_windows: int | None) -> WindowPlan:
    """Return how a head with this checkpoint cuts a track.

    Args:
        window_s: the wanted length; by default the one it was trained on, the model's own, or 30 s. A model with a
            length of its own takes no longer one.

    Raises:
        CheckpointError: ``window_s`` is longer than the model can take, or shorter than one frame.
    """
    native = info.native_window_s
    length = next(value for value in (window_s, info.companion.window_s, native, 30.0) if value is not None)
    if native is not None and length > native:
        length = native
    samples = round(length * info.sample_rate)
    if samples < info.min_samples:
        raise CheckpointError(
            f"got a window of {length:g} s for {info.name}, expected at least {info.min_samples / info.sample_rate:g} s"
        )
    return WindowPlan(info.sample_rate, samples, samples, max_windows, info.min_samples)


def is_hub_id(source: str) -> bool:
    """Return whether ``source`` is a name on the hub: no folder here or in an object store, and no name known here."""
    return "://" not in source and not Path(source).is_dir() and not named.is_named(source)


def resolve(source: str, *, revision: str | None, patterns: list[str]) -> Path:
    """Return the local folder of ``source``, with the hub's files that match ``patterns`` downloaded.

    A folder in an object store is copied whole, so that its hash is that of its weights too.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    if Path(source).is_dir():
        return Path(source)
    if named.is_named(source):
        return named.folder_of(source)
    if "://" in source:
        return local_copy(source, [*CONFIG_FILES, *WEIGHT_FILES, *PICKLE_FILES, calibration.FILE])
    if os.sep in source.rstrip(os.sep) and (source.startswith((os.sep, ".", "~")) or source.count("/") > 1):
        raise CheckpointError(
            f"no model folder {source}; give a folder with config.json and model.safetensors, or a hub id"
        )

    try:
        return Path(huggingface_hub.snapshot_download(source, revision=revision, allow_patterns=patterns))
    except huggingface_hub.errors.HFValidationError:
        reason = "is neither a folder nor a hub id"
    except huggingface_hub.errors.LocalEntryNotFoundError:
        reason = "is not in the local cache and the hub cannot be reached"
    except huggingface_hub.errors.HfHubHTTPError as error:
        reason = (
            f"is not to be had from the hub ({error.response.status_code if error.response is not None else error})"
        )
    except OSError:
        reason = "could not be downloaded"
    raise CheckpointError(
        f"the model {source} {reason}; give the folder of a saved model, label real music without the hub "
        "(`tonearm models add musicnn`, then `tonearm tag SOURCE --tag-model musicnn --genre-model none --out DEST`), "
        "or try the small built-in models: `tonearm tag SOURCE --demo-models --out DEST`"
    )


def open_config(folder: Path, source: str) -> PreTrainedConfig:
    """Return the transformers config of a folder, whatever kind of model it is.

    Raises:
        CheckpointError: there is none, or it cannot be understood.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{source} has no {CONFIG}; give the folder of a model saved with save_pretrained")
    config_files.check_is_model(folder, source)
    values = config_files.read_object(folder / CONFIG)
    config_files.check_config(values, f"{source}/{CONFIG}")
    _forbid_kernels()
    from transformers import AutoConfig

    register_family(values.get("model_type"))
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (*LIBRARY_ERRORS, huggingface_hub.errors.StrictDataclassError) as error:
        raise CheckpointError(f"{source}/{CONFIG} cannot be used: {first_line(error)}") from None


def read_config(folder: Path, source: str) -> PreTrainedConfig:
    """Return the transformers config of an audio classifier.

    Raises:
        CheckpointError: there is none, or it is another kind of model.
    """
    config = open_config(folder, source)
    classifiers = known_classifiers(config.model_type)
    expected = classifiers.get(config.model_type)
    found = (getattr(config, "architectures", None) or [expected])[0]
    if expected is None or found != expected:
        raise CheckpointError(
            f"{source} is a {found or config.model_type}, expected an audio classifier "
            f"({expected or 'one of ' + ', '.join(sorted(classifiers))})"
        )
    return config


def register_family(model_type: object) -> None:
    """Have transformers' auto classes know a family that transformers does not have.

    Raises:
        PluginError: a package adds it and cannot be used.
    """
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    if (added := added_classifier(model_type)) is None:
        return
    AutoConfig.register(str(model_type), added.config_class, exist_ok=True)
    AutoModelForAudioClassification.register(added.config_class, added, exist_ok=True)
    with families.FAMILIES.using(str(model_type)):
        extractor = families.family_of(str(model_type)).extractor()
    if extractor is not None:
        AutoFeatureExtractor.register(added.config_class, extractor, exist_ok=True)


def added_classifier(model_type: object) -> type[PreTrainedModel] | None:
    """Return the class of a family that transformers does not have: tonearm's own or another package's."""
    if not isinstance(model_type, str):
        return None
    family = families.family_of(model_type)
    with families.FAMILIES.using(model_type):
        return family.classifier()


def known_classifiers(model_type: str) -> dict[str, str]:
    """Return the names of the classes of audio classifiers by ``model_type``, with that of this one if it is added."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    added = added_classifier(model_type)
    return dict(CLASSIFIERS) if added is None else {**CLASSIFIERS, model_type: added.__name__}


class Window(NamedTuple):
    """How long a window a model takes; see ``CheckpointInfo``."""

    sample_rate: int
    native_s: float | None
    min_samples: int


def read_window(config: PreTrainedConfig, preprocessor: dict[str, Any], source: str) -> Window:
    """Return how long a window a model takes, as its family says.

    Raises:
        CheckpointError: the two files belong to different models.
    """
    family, values = families.family_of(config.model_type), config.to_dict()
    rate = int(preprocessor.get("sampling_rate", 16000))
    with families.FAMILIES.using(config.model_type):
        config_files.check_pair(family.preprocessor_shape(values), preprocessor, source)
        return Window(rate, family.native_window_s(values, preprocessor, rate), family.min_samples(values))


def read_labels(config: PreTrainedConfig, source: str) -> tuple[str, ...]:
    """Return the labels in the order of the logits.

    Raises:
        CheckpointError: numbers are missing, or two labels are the same.
    """
    id2label = {int(number): str(label) for number, label in (config.id2label or {}).items()}
    if sorted(id2label) != list(range(len(id2label))) or not id2label:
        raise CheckpointError(
            f"{source}: id2label has the numbers {sorted(id2label)[:8]}, expected 0 to {len(id2label) - 1}"
        )
    labels = tuple(id2label[number] for number in range(len(id2label)))
    if len(set(labels)) != len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise CheckpointError(f"{source}: id2label has {', '.join(twice[:3])} more than once, expected distinct labels")
    return labels


def read_preprocessor(folder: Path, source: str) -> dict[str, Any]:
    """Return ``preprocessor_config.json``.

    Raises:
        CheckpointError: it is missing, not JSON, or describes no audio.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise CheckpointError(f"{source} has no {PREPROCESSOR}; save the feature extractor beside the model")
    values = config_files.read_object(path)
    config_files.check_preprocessor(values, f"{source}/{PREPROCESSOR}")
    return values


def load_model(source: str, *, revision: str | None, allow_pickle: bool) -> tuple[Any, Any, Path]:
    """Return the model in evaluation mode, its feature extractor, and the folder they came from.

    Raises:
        CheckpointError: weights that are missing, incomplete, of other shapes, pickled without leave, or not finite.
    """
    import torch
    import transformers

    patterns = CONFIG_FILES + WEIGHT_FILES + (PICKLE_FILES if allow_pickle else [])
    folder = resolve(source, revision=revision, patterns=patterns)
    config = read_config(folder, source)
    read_window(config, read_preprocessor(folder, source), source)
    read_labels(config, source)
    if not list(folder.glob("*.safetensors")) and not (allow_pickle and list(folder.glob("*.bin"))):
        pickled = " (only pickled weights, which can run code: allow_pickle = true if you trust them)"
        raise CheckpointError(f"{source} has no safetensors weights{pickled if list(folder.glob('*.bin')) else ''}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    check_fit(config, read_shapes(folder), source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = transformers.AutoModelForAudioClassification.from_pretrained(
                folder,
                config=config,
                trust_remote_code=False,
                use_safetensors=None if allow_pickle else True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report tells the shapes
                dtype=torch.float32,
            )
            extractor = load_extractor(folder)
    except (*LIBRARY_ERRORS, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be loaded: {first_line(error)}") from None
    for name, stored, expected in sorted(report.get("mismatched_keys", ()), key=str):
        raise unfit(config, name, stored, expected, source)
    if absent := sorted(report.get("missing_keys", ())):
        raise CheckpointError(
            f"{source}: {counted(len(absent), 'weight', 'is', 'are')} missing ({absent[0]} ...); expected a "
            "fine-tuned classifier, not a bare encoder"
        )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"{source}: the weight {name} holds values that are not numbers")
    return model.eval(), extractor, folder


def load_extractor(folder: Path) -> FeatureExtractionMixin:
    """Return the extractor of the two files that were looked at; transformers would prefer what further ones say.

    Raises:
        CheckpointError: transformers cannot make one of them.
    """
    from transformers import AutoFeatureExtractor

    with tempfile.TemporaryDirectory(prefix="tonearm-") as alone:
        for name in CONFIG_FILES:
            shutil.copyfile(folder / name, Path(alone) / name)
        try:
            return AutoFeatureExtractor.from_pretrained(alone, trust_remote_code=False)
        except LIBRARY_ERRORS as error:
            raise CheckpointError(f"{folder / PREPROCESSOR} cannot be used: {first_line(error)}") from None


def _folder_hash(folder: Path) -> str:
    names = {path for pattern in [*CONFIG_FILES, *WEIGHT_FILES, *PICKLE_FILES] for path in folder.glob(pattern)}
    stats = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(names))
    return _hash_files(stats)


@functools.lru_cache(maxsize=32)
def _hash_files(stats: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stats:
        digest.update(Path(name).name.encode())
        with Path(name).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()[:16]}"


def _forbid_kernels() -> None:
    """Have transformers fetch no kernels from the hub, whatever a config says; it reads this when it is imported."""
    os.environ["USE_HUB_KERNELS"] = "0"
