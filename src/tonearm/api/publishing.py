"""A trained model on the Hugging Face Hub: what would go there, or sent; and a Space that shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tonearm.api.flags import Source, place_of
from tonearm.errors import UsageError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.training.publish import hub
from tonearm.training.publish.hub import Package
from tonearm.training.publish.space import write_space


@dataclasses.dataclass(frozen=True)
class Published:
    """What goes to the Hub.

    Attributes:
        package: the files and the card's metadata.
        space: files of the Space that were written here.
        said: what the Hub has now, in words; None where nothing was sent.
    """

    package: Package
    space: tuple[Path, ...]
    said: str | None


def publish(
    model: Source,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    license: str | None = None,
    datasets: Sequence[str] = (),
    base_model: str | None = None,
    tags: Sequence[str] = (),
    message: str | None = None,
    space: Source | None = None,
    overwrite: bool = False,
) -> Published:
    """Send a model and its card to the Hub: what ``tonearm publish MODEL REPO`` does.

    Args:
        model: the folder that ``train`` has written.
        repo: ``OWNER/NAME``; it is made where there is none.
        private: make it private.
        dry_run: send nothing.
        license, datasets, base_model, tags: for the card, besides what it says already.
        message: of the commit.
        space: also write a Gradio Space to this folder.
        overwrite: replace the Space that is there.

    Raises:
        UsageError: no such folder, no whole model in it, or a name that the Hub does not take.
        DestinationError: no token, no access or no network.
    """
    folder = Path(place_of(model, "the model"))
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the one that `tonearm train --out` has written")
    package = hub.package(folder, repo, license=license, datasets=datasets, base_model=base_model, tags=tags)
    # Before anything is sent: a Space that may not be replaced stops the command with nothing on the Hub.
    written: Sequence[Path] = ()
    if space is not None:
        written = write_space(Path(space), repo, describe_checkpoint(str(folder)), overwrite=overwrite)
    said = None if dry_run else hub.publish(package, private=private, message=message)
    return Published(package, tuple(written), said)
