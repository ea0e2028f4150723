"""Comparing a checkpoint's stored weights with its config, without loading any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from tonearm.errors import CheckpointError, first_line
from tonearm.wording import counted

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

# Prefixes of the last layers' names; training replaces these layers.
HEAD = ("classifier", "projector")


def read_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of each weight that is stored as safetensors; only the files' headers are read."""
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({first_line(error)}); save or download it again") from None
    return shapes


def weightless(folder: Path) -> dict[str, Tensor]:
    """Return tensors with the names and shapes of the stored weights; they take no memory, and hold zeros."""
    import torch

    shapes: dict[str, Sequence[int]] = dict(read_shapes(folder))
    for path in () if shapes else sorted(folder.glob("*.bin")):
        pickled = torch.load(path, map_location="meta", weights_only=True)
        shapes |= {name: weight.shape for name, weight in pickled.items()}
    # Not on torch's device ``meta``: transformers puts weights there only if the package accelerate is installed.
    return {name: torch.zeros(()).expand(tuple(shape)) for name, shape in shapes.items()}


def check_classifier(shapes: dict[str, list[int]], labels: tuple[str, ...], source: str) -> None:
    """Refuse a last layer that does not fit the labels, before any weight is loaded.

    Raises:
        CheckpointError: there is no classifier, or one for another number of labels.
    """
    # Pickled weights have no header to read.
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


def check_shapes(
    config: PreTrainedConfig, shapes: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]], source: str
) -> None:
    """Refuse stored weights of other shapes than the config's model has.

    Raises:
        CheckpointError: naming the first.
    """
    for name, stored in sorted(shapes.items()):
        if name in expected and list(expected[name]) != list(stored):
            raise unfit(config, name, stored, expected[name], source)


def check_report(report: Mapping[str, Any], config: PreTrainedConfig, source: str, *, is_new_head: bool) -> None:
    """Check the report that transformers gives when it loads weights.

    Args:
        is_new_head: whether the last layers may be missing or of other shapes.

    Raises:
        CheckpointError: weights are missing, or are of another model.
    """
    new = HEAD if is_new_head else ()
    for name, stored, expected in sorted(report.get("mismatched_keys", ()), key=str):
        if not name.startswith(new):
            raise unfit(config, name, stored, expected, source)
    absent = [name for name in sorted(report.get("missing_keys", ())) if not name.startswith(new)]
    if absent and is_new_head:
        raise CheckpointError(
            f"{source}: {counted(len(absent), 'weight', 'of the encoder is', 'of the encoder are')} missing "
            f"({absent[0]} ...); expected a checkpoint of the family {config.model_type}"
        )
    if absent:
        raise CheckpointError(
            f"{source}: {counted(len(absent), 'weight', 'is', 'are')} missing ({absent[0]} ...); expected a "
            "fine-tuned classifier, not a bare encoder"
        )


def unfit(
    config: PreTrainedConfig, name: str, stored: Sequence[int], expected: Sequence[int], source: str
) -> CheckpointError:
    """Return the error for a weight of another shape than the config's model has."""
    return CheckpointError(
        f"{source}: the weight {name} has the shape {list(stored)}, expected {list(expected)} for the config's "
        f"{counted(config.num_labels or 0, 'label')}; the config belongs to other weights"
    )
