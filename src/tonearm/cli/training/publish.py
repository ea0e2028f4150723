"""``tonearm publish``: what goes to the Hub, shown or sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tonearm.errors import UsageError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.storage.uris import visible
from tonearm.training.publish import hub as library_publish
from tonearm.training.publish.space import write_space


def publish(
    folder: Path,
    repo: str,
    *,
    private: bool,
    dry_run: bool,
    license: str | None,
    datasets: Sequence[str],
    base_model: str | None,
    tags: Sequence[str],
    message: str | None,
    space: Path | None,
    overwrite: bool,
) -> int:
    """Show or send, and write a Space if one is wanted; return the exit status."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the one that `tonearm train --out` has written")
    found = library_publish.package(folder, repo, license=license, datasets=datasets, base_model=base_model, tags=tags)
    if space is not None:
        for path in write_space(space, repo, describe_checkpoint(str(folder)), overwrite=overwrite):
            print(f"written: {visible(str(path))}")
    width = max(map(len, found.files))
    if dry_run:
        print(f"would go to {repo}{' (private)' if private else ''}:")
        for name in sorted(found.files):
            print(f"  {visible(name):{width}}  {found.size_of(name):>12,} bytes")
        shown = {name: value for name, value in found.metadata.items() if name != "model-index"}
        print("card:")
        for line in yaml.safe_dump(shown, sort_keys=False).splitlines():
            print(f"  {visible(line)}")
        return 0
    print(library_publish.publish(found, private=private, message=message))
    return 0
