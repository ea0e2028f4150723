"""``tonearm publish``: what goes to the Hub, shown or sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tonearm.api import publishing
from tonearm.cli.output import Output


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
    as_json: bool = False,
) -> int:
    """Show or send, and write a Space if one is wanted; return the exit status."""
    output = Output(as_json)
    done = publishing.publish(
        folder,
        repo,
        private=private,
        dry_run=dry_run,
        license=license,
        datasets=datasets,
        base_model=base_model,
        tags=tags,
        message=message,
        space=space,
        overwrite=overwrite,
    )
    package = done.package
    for path in done.space:
        output.say(f"written: {path}")
    if done.said is not None:
        output.say(done.said)
    else:
        width = max(map(len, package.files))
        output.say(f"would go to {repo}{' (private)' if private else ''}:")
        for name in sorted(package.files):
            output.say(f"  {name:{width}}  {package.size_of(name):>12,} bytes")
        shown = {name: value for name, value in package.metadata.items() if name != "model-index"}
        output.say("card:")
        for line in yaml.safe_dump(shown, sort_keys=False).splitlines():
            output.say(f"  {line}")
    output.result(
        {
            "repo": repo,
            "is_private": private,
            "is_sent": done.said is not None,
            "files": {name: package.size_of(name) for name in sorted(package.files)},
            "metadata": package.metadata,
            "space": done.space,
        }
    )
    return 0
