"""What a run has written: ``report``, ``export``, ``compact``, ``prune``; and ``plot`` of one track."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.help import RESULTS, Verb
from tonearm.cli.options import CONFIG, DEMO_MODELS, Given, Json, settings, with_flags
from tonearm.cli.verbs.label import Run
from tonearm.settings import ModelSettings, TagSettings


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (report, export, compact, prune, plot):
        app.command(cls=Verb, rich_help_panel=RESULTS)(verb)


def complete_format(incomplete: str) -> list[str]:
    """Return the formats that begin so, those of other packages too."""
    from tonearm.exports.registry import EXPORTERS

    return [name for name in EXPORTERS.names() if name.startswith(incomplete)]


def report(run: Run, json_output: Json = False) -> int:
    """Write report.html of RUN again, from its rows and its last run."""
    from tonearm.cli.results.files import report as printer

    return printer(run, as_json=json_output)


def export(
    run: Run,
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="File to write; a folder for audacity and m3u.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, jsonl, audacity (labels per track), m3u (playlists) or embeddings (Parquet); by default "
            "chosen by the ending of OUTPUT.",
            autocompletion=complete_format,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="HEAD", help="For m3u: genre, tag or another head, one playlist per label.")
    ] = "genre",
    min_score: Annotated[float | None, typer.Option(metavar="SCORE", help="Leave out labels that score less.")] = None,
    include_embeddings: Annotated[
        bool, typer.Option("--include-embeddings", help="For jsonl: the embeddings too.")
    ] = False,
    dim: Annotated[
        int | None,
        typer.Option(metavar="N", help="For embeddings: project to N numbers, by PCA on these tracks."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Only tracks for which this DuckDB expression over the columns is true, such as \"genre = 'rock' AND "
            'duration_s > 60".',
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of a format that a package has added; may be repeated."),
    ] = None,
    all_versions: Annotated[
        bool,
        typer.Option(
            "--all-versions", help="Also rows of what is no longer listed: deleted, renamed and changed files."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json_output: Json = False,
) -> int:
    """Write the rows of RUN for other programs."""
    from tonearm.cli.results.files import export as printer

    return printer(
        run,
        output,
        format=kind,
        options={"by": by, "min_score": min_score, "include_embeddings": include_embeddings, "dim": dim},
        named=option or (),
        where=where,
        all_versions=all_versions,
        overwrite=overwrite,
        as_json=json_output,
    )


def compact(run: Run, json_output: Json = False) -> int:
    """Merge the small files of RUN into a few large ones.

    The files in tracks/ are rewritten, sorted by key.
    """
    from tonearm.cli.results.files import compact as printer

    return printer(run, as_json=json_output)


def prune(
    run: Run,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Forget what this source has listed; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    json_output: Json = False,
) -> int:
    """Remove the rows of tracks that no source lists any more."""
    from tonearm.cli.results.prune import prune as printer

    return printer(run, source or (), is_sure=yes, as_json=json_output)


@with_flags(
    settings(ModelSettings, "genre_model", "tag_model"), DEMO_MODELS, settings(TagSettings, "max_windows"), CONFIG
)
def plot(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A track: a path or a URL.")],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the pictures.", show_default="this folder")
    ] = Path(),
    timeline: Annotated[bool, typer.Option("--timeline", help="Also score the track and draw its timeline.")] = False,
    json_output: Json = False,
    *,
    flags: Given,
) -> int:
    """Draw a track's waveform, spectrum and spectrograms as PNG."""
    from tonearm.cli.results.plot import plot as printer

    return printer(file, out, timeline=timeline, as_json=json_output, **flags)
