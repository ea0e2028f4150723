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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub  # lazy: it loads only the names that are used, so none is imported from it here

from tonearm.errors import CheckpointError
from tonearm.models import calibration, config_files
from tonearm.models.calibration import TonearmSidecar, read_sidecar
from tonearm.models.config_files import CONFIG, PREPROCESSOR
from tonearm.models.exported.files import GRAPH_FILES, describe_graph, has_graph, is_graph_file
from tonearm.models.musicnn import named
from tonearm.models.openvino import cache
from tonearm.models.stored_weights import check_classifier, read_shapes
from tonearm.models.transformers_loader import LoadedModel, check_fit, load_extractor, load_weights, read_config
from tonearm.models.window_plan import read_limits
from tonearm.storage.download import local_copy

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

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
        num_parameters: as stored, or None if there are only pickled weights.
        multi_label: whether the config says that labels are independent.
        sidecar: the contents of ``tonearm.json``: what training and evaluation add, and what an exported graph is.
        hop_s: seconds between two windows' starts; None for no overlap.
        digest: of an exported graph, its file and its description together; see ``exported.reading.digest_of``.
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
    sidecar: TonearmSidecar = dataclasses.field(default_factory=TonearmSidecar)
    hop_s: float | None = None
    digest: str | None = None

    @property
    def is_exported(self) -> bool:
        """Whether it is a graph that OpenVINO alone runs, not a checkpoint of transformers."""
        return self.digest is not None

    @property
    def trained_window_s(self) -> float | None:
        """Seconds of the windows that it was trained on, where tonearm has trained it."""
        return self.sidecar.window_s


def describe_checkpoint(source: str, *, revision: str | None = None) -> CheckpointInfo:
    """Return what ``source`` holds; reads configs and the weights' header, and for a folder their bytes for the hash.

    Args:
        source: a folder, here or in an object store, a hub id, or the file of an exported graph.
        revision: a branch, tag or commit of the hub id.

    Raises:
        CheckpointError: missing, not an audio classifier, or without the files it needs.
    """
    folder = resolve(source, revision=revision, patterns=[*CONFIG_FILES, calibration.FILE])
    if is_graph_file(source) or has_graph(folder):
        fetch = functools.partial(resolve, source, revision=revision) if is_hub_id(source) else None
        return CheckpointInfo(**describe_graph(source, folder, fetch))
    name = source if is_hub_id(source) else folder.resolve().name
    digest = folder.name if is_hub_id(source) else _folder_hash(folder)
    config_files.check_is_model(folder, source)
    # What the conversion has noted saves loading transformers, which takes seconds.
    if (converted := cache.find(folder, digest)) is not None:
        sidecar = read_sidecar(folder)
        try:
            described = converted.description | {"labels": tuple(converted.description["labels"])}
            return CheckpointInfo(name=name, revision=digest, sidecar=sidecar, **described)
        except (LookupError, TypeError) as error:
            raise CheckpointError(
                f"{converted.folder}/facts.json does not describe a model ({error}); delete that folder"
            ) from None
    config, preprocessor = read_config(folder, source), read_preprocessor(folder, source)
    labels, shapes = read_labels(config, source), read_shapes(folder)
    check_classifier(shapes, labels, source)
    limits = read_limits(config, preprocessor, source)
    return CheckpointInfo(
        name=name,
        revision=digest,
        family=config.model_type,
        labels=labels,
        sample_rate=limits.sample_rate,
        native_window_s=limits.native_s,
        min_samples=limits.min_samples,
        embedding_dim=int(config.hidden_size),
        num_parameters=sum(map(math.prod, shapes.values())) or None,
        multi_label=config.problem_type == "multi_label_classification",
        sidecar=read_sidecar(folder),
    )


def is_hub_id(source: str) -> bool:
    """Return whether ``source`` is a name on the hub: no folder, no graph's file, and no name that is known here."""
    return not ("://" in source or Path(source).is_dir() or is_graph_file(source) or named.is_named(source))


def resolve(source: str, *, revision: str | None, patterns: list[str]) -> Path:
    """Return the local folder of ``source``, with the hub's files that match ``patterns`` downloaded.

    All files of a model in an object store are copied, whatever ``patterns`` says.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    if Path(source).is_dir():
        return Path(source)
    if named.is_named(source):
        return named.folder_of(source)
    if "://" in source:
        # Weights too, even for a description: a folder's revision is a hash over them.
        place = source.rpartition("/")[0] if is_graph_file(source) else source
        return local_copy(place, [*CONFIG_FILES, *WEIGHT_FILES, *PICKLE_FILES, *GRAPH_FILES, calibration.FILE])
    if is_graph_file(source):
        if not Path(source).is_file():
            raise CheckpointError(f"no file {source}; give an exported graph, or the folder that it is in")
        return Path(source).parent
    # Looks like a path, not like OWNER/NAME: asking the hub would only give a confusing message.
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
        "(`tonearm models add musicnn`, then `tonearm tag SOURCE --tag-model musicnn --genre-model none --out RUN`), "
        "or try the small built-in models: `tonearm tag SOURCE --demo-models --out RUN`"
    )


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


def load_model(source: str, *, revision: str | None, allow_pickle: bool) -> LoadedModel:
    """Return the model in evaluation mode, and its feature extractor.

    Raises:
        CheckpointError: weights are missing, incomplete, of other shapes, pickled without permission, or not finite.
    """
    patterns = CONFIG_FILES + WEIGHT_FILES + (PICKLE_FILES if allow_pickle else [])
    folder = resolve(source, revision=revision, patterns=patterns)
    config = read_config(folder, source)
    read_limits(config, read_preprocessor(folder, source), source)
    read_labels(config, source)
    if not list(folder.glob("*.safetensors")) and not (allow_pickle and list(folder.glob("*.bin"))):
        pickled = " (only pickled weights, which can run code: allow_pickle = true if you trust them)"
        raise CheckpointError(f"{source} has no safetensors weights{pickled if list(folder.glob('*.bin')) else ''}")
    # Before any weight is loaded: a wrong config may describe a model larger than the machine.
    check_fit(config, folder, source)
    model = load_weights(folder, config, source, use_safetensors=None if allow_pickle else True)
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise CheckpointError(f"{source}: the weight {name} holds values that are not numbers")
    return LoadedModel(model.eval(), load_extractor(folder))


def _folder_hash(folder: Path) -> str:
    names = {path for pattern in [*CONFIG_FILES, *WEIGHT_FILES, *PICKLE_FILES] for path in folder.glob(pattern)}
    # Sizes and times are the key of the cache below: hashing gigabytes again would take seconds at each description.
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
