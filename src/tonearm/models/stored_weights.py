"""The weights that a checkpoint has stored, beside what its config says; none of them is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tonearm.errors import CheckpointError, first_line
from tonearm.models.config_files import CONFIG, LIBRARY_ERRORS
from tonearm.wording import counted


def read_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of each weight that is there as safetensors; only the files' headers are read."""
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({first_line(error)}); save or download it again") from None
    return shapes


def check_classifier(shapes: dict[str, list[int]], labels: tuple[str, ...], source: str) -> None:
    """Find what is wrong with the last layer before any weights are loaded, where they are at hand."""
    if not shapes:
        return
    name = next((name for name in ("classifier.dense.weight", "classifier.weight") if name in shapes), None)
    if name is None:
        raise CheckpointError(
            f"{source} has no classifier weights; expected a fine-tuned classifier, not a bare encoder"
        )
    if shapes[name][:1] != [len(labels)]:
        raise CheckpointError(
            f"{source}: the weight {name} has the shape {shapes[name]}, expected {counted(len(labels), 'row')} for "
            f"the config's {counted(len(labels), 'label')}; the config belongs to other weights"
        )


def check_fit(config: Any, shapes: dict[str, list[int]], source: str) -> None:
    """Compare the shapes of a model without memory: one of a wrong config may be larger than the machine."""
    import torch
    from transformers import AutoModelForAudioClassification

    if not shapes:
        return
    try:
        with torch.device("meta"):
            expected = AutoModelForAudioClassification.from_config(config).state_dict()
    except LIBRARY_ERRORS as error:
        raise CheckpointError(f"{source}/{CONFIG} cannot be used: {first_line(error)}") from None
    for name, stored in sorted(shapes.items()):
        if name in expected and list(expected[name].shape) != list(stored):
            raise unfit(config, name, stored, expected[name].shape, source)


def unfit(config: Any, name: str, stored: Sequence[int], expected: Sequence[int], source: str) -> CheckpointError:
    """Return the error for a weight of another shape than the config's model has."""
    return CheckpointError(
        f"{source}: the weight {name} has the shape {list(stored)}, expected {list(expected)} for the config's "
        f"{counted(config.num_labels, 'label')}; the config belongs to other weights"
    )
