"""Loading transformers' audio classifiers from a folder, with checks of their configs and weights.

Tagging loads finished classifiers; training also begins with bare encoders and with architectures without weights.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import huggingface_hub
from safetensors import SafetensorError

from tonearm.errors import CheckpointError, first_line
from tonearm.models import config_files
from tonearm.models.config_files import CONFIG, LIBRARY_ERRORS, PREPROCESSOR
from tonearm.models.families import FAMILIES, family_of
from tonearm.models.stored_weights import check_report, check_shapes, read_shapes, weightless

if TYPE_CHECKING:
    from transformers import AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor


class LoadedModel(NamedTuple):
    """A classifier of transformers', and what makes its inputs."""

    model: PreTrainedModel
    extractor: SequenceFeatureExtractor


def open_config(folder: Path, source: str) -> PreTrainedConfig:
    """Return the transformers config of a folder with any kind of model.

    Raises:
        CheckpointError: there is none, or it cannot be understood.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{source} has no {CONFIG}; give the folder of a model saved with save_pretrained")
    config_files.check_is_model(folder, source)
    values = config_files.read_object(folder / CONFIG)
    config_files.check_config(values, f"{source}/{CONFIG}")
    # Keeps transformers from fetching kernels from the hub for a config that names some. It reads the variable when it
    # is imported, so this comes first.
    os.environ["USE_HUB_KERNELS"] = "0"
    from transformers import AutoConfig

    register_family(values.get("model_type"))
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (*LIBRARY_ERRORS, huggingface_hub.errors.StrictDataclassError) as error:
        raise CheckpointError(f"{source}/{CONFIG} cannot be used: {first_line(error)}") from None


def read_config(folder: Path, source: str, *, may_be_encoder: bool = False) -> PreTrainedConfig:
    """Return the transformers config of an audio classifier.

    Args:
        may_be_encoder: whether any model of a family with an audio classifier will do, since training adds the last
            layers.

    Raises:
        CheckpointError: there is none, or it is another kind of model.
    """
    config = open_config(folder, source)
    classifiers = known_classifiers(config.model_type)
    expected = classifiers.get(config.model_type)
    if may_be_encoder:
        if expected is None:
            raise CheckpointError(
                f"{source} is a {config.model_type}, which has no audio classifier; expected one of "
                f"{', '.join(sorted(classifiers))}"
            )
        return config
    got = (getattr(config, "architectures", None) or [expected])[0]
    if expected is None or got != expected:
        raise CheckpointError(
            f"{source} is a {got or config.model_type}, expected an audio classifier "
            f"({expected or 'one of ' + ', '.join(sorted(classifiers))})"
        )
    return config


def register_family(model_type: object) -> None:
    """Register a family that transformers lacks with transformers' auto classes.

    Raises:
        PluginError: a package adds it and cannot be used.
    """
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    if (added := added_classifier(model_type)) is None:
        return
    AutoConfig.register(str(model_type), added.config_class, exist_ok=True)
    AutoModelForAudioClassification.register(added.config_class, added, exist_ok=True)
    with FAMILIES.using(str(model_type)):
        extractor = family_of(str(model_type)).extractor()
    if extractor is not None:
        AutoFeatureExtractor.register(added.config_class, extractor, exist_ok=True)


def added_classifier(model_type: object) -> type[PreTrainedModel] | None:
    """Return the classifier of a family that transformers lacks, tonearm's or another package's; None for others."""
    if not isinstance(model_type, str):
        return None
    family = family_of(model_type)
    with FAMILIES.using(model_type):
        return family.classifier()


def known_classifiers(model_type: str) -> dict[str, str]:
    """Return the class names of audio classifiers by ``model_type``, those of transformers and this added one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    added = added_classifier(model_type)
    return dict(CLASSIFIERS) if added is None else {**CLASSIFIERS, model_type: added.__name__}


def load_extractor(folder: Path) -> SequenceFeatureExtractor:
    """Return the extractor that the two checked files describe.

    Raises:
        CheckpointError: transformers cannot make one of them.
    """
    from transformers import AutoFeatureExtractor

    with tempfile.TemporaryDirectory(prefix="tonearm-") as alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Alone in a folder: transformers would prefer a ``processor_config.json``, which nobody has checked.
        for name in (CONFIG, PREPROCESSOR):
            shutil.copyfile(folder / name, Path(alone) / name)
        try:
            return AutoFeatureExtractor.from_pretrained(alone, trust_remote_code=False)
        except LIBRARY_ERRORS as error:
            raise CheckpointError(f"{folder / PREPROCESSOR} cannot be used: {first_line(error)}") from None


def new_model(config: PreTrainedConfig, source: str, *, is_empty: bool = False) -> PreTrainedModel:
    """Return a classifier with random weights.

    Args:
        is_empty: make it on torch's device ``meta``, where weights have shapes and no memory.

    Raises:
        CheckpointError: no model can be made of the config.
        PluginError: the code of a family from outside fails.
    """
    import torch

    classifiers = _classifiers()
    # The model of a wrong config may be larger than the machine, so checks make it without memory.
    try:
        with FAMILIES.using(config.model_type), torch.device("meta" if is_empty else "cpu"), _quiet():
            return classifiers.from_config(config, dtype=torch.float32)
    except LIBRARY_ERRORS as error:
        raise CheckpointError(f"{source}/{CONFIG} cannot be used: {first_line(error)}") from None


def _classifiers() -> type[AutoModelForAudioClassification]:
    """Return transformers' class of all classifiers, whose module loads torch."""
    from transformers import AutoModelForAudioClassification

    return AutoModelForAudioClassification


def check_fit(config: PreTrainedConfig, folder: Path, source: str) -> None:
    """Compare the shapes of the stored weights with those of the config's model, before any are loaded.

    Raises:
        CheckpointError: they are of another model.
    """
    if shapes := read_shapes(folder):
        expected = {
            name: weight.shape for name, weight in new_model(config, source, is_empty=True).state_dict().items()
        }
        check_shapes(config, shapes, expected, source)


def load_weights(
    folder: Path, config: PreTrainedConfig, source: str, *, use_safetensors: bool | None, is_new_head: bool = False
) -> PreTrainedModel:
    """Return the classifier of ``config`` with the weights in ``folder``.

    Args:
        use_safetensors: None to fall back to pickled weights, which are read as plain tensors, if there are no others.
        is_new_head: whether the last layers may be missing or of other shapes; they then get random weights.

    Raises:
        CheckpointError: weights that cannot be read, are missing, or have other shapes.
    """
    # Not within ``FAMILIES.using``: what a damaged file makes transformers raise is not the family's fault.
    try:
        with _quiet():
            model, report = _classifiers().from_pretrained(
                folder,
                config=config,
                trust_remote_code=False,
                use_safetensors=use_safetensors,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report tells the shapes
                weights_only=True,
                dtype="float32",
            )
    except (*LIBRARY_ERRORS, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be loaded: {first_line(error)}") from None
    check_report(report, config, source, is_new_head=is_new_head)
    loaded: PreTrainedModel = model
    return loaded


def check_stored(folder: Path, config: PreTrainedConfig, source: str, *, is_new_head: bool) -> None:
    """Check weights as ``load_weights`` does, by the headers of the files alone.

    Raises:
        CheckpointError: as ``load_weights``.
    """
    kind: Any = type(new_model(config, source, is_empty=True))
    try:
        with _quiet():
            _, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=weightless(folder),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (*LIBRARY_ERRORS, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be loaded: {first_line(error)}") from None
    check_report(report, config, source, is_new_head=is_new_head)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' reports and Python's warnings off the terminal while a model is made."""
    # ``check_report`` says in one line what matters of them.
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
