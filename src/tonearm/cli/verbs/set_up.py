"""Getting started: ``demo`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.help import SET_UP, Verb
from tonearm.cli.options import Given, Json, settings, with_flags
from tonearm.settings import TagSettings


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (demo, doctor):
        app.command(cls=Verb, rich_help_panel=SET_UP)(verb)


@with_flags(settings(TagSettings, "workers"))
def demo(
    library: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the songs.")] = Path("demo-library"),
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the rows and the report.")] = Path("demo-out"),
    tracks: Annotated[int, typer.Option(min=1, metavar="N", help="How many songs.")] = 24,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed writes the same songs.")] = 0,
    *,
    flags: Given,
) -> int:
    """Synthesize a small library and label it with built-in models."""
    from tonearm.cli.demo import demo as printer

    return printer(library, out, num_tracks=tracks, seed=seed, **flags)


def doctor(json_output: Json = False) -> int:
    """Check this machine: memory, packages, storage, Ray, models."""
    from tonearm.cli.doctor import doctor as printer

    return printer(as_json=json_output)
