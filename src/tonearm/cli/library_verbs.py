"""The verbs about what a run has written: ``status``, ``compact``, ``prune``, ``report`` and ``export``."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.storage.uris import visible
from tonearm.wording import counted

Destination = Annotated[str, typer.Argument(metavar="DEST", help="What `tonearm tag --out DEST` has written.")]


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (status, compact, prune, report, export):
        app.command()(verb)


def status(dest: Destination, json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Say how far DEST is, from any machine that can read it, whether a run is at work or not."""
    from tonearm.cli.status import status as verb

    return verb(dest, as_json=json_output)


def prune(
    dest: Destination,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Forget what this source has listed; may be repeated.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Remove the rows of tracks that no source of DEST lists any more."""
    from tonearm.cli.prune import prune as verb

    return verb(dest, source or (), is_sure=yes)


def compact(dest: Destination) -> int:
    """Put the many small files of DEST/tracks together into few large ones, sorted by key."""
    from tonearm.cli.status import compact as verb

    return verb(dest)


def report(dest: Destination) -> int:
    """Write report.html of DEST anew, from its rows and its last run."""
    import tonearm

    print(visible(tonearm.Library(dest).report()))
    return 0


def export(
    dest: Destination,
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="File to write; a folder for audacity and m3u.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, jsonl, audacity (labels per track), m3u (playlists) or embeddings (Parquet); by default what "
            "OUTPUT's ending says.",
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="For m3u: genre, tag or another head, one playlist per label.")] = "genre",
    min_score: Annotated[float | None, typer.Option(help="Leave out labels that score less.")] = None,
    include_embeddings: Annotated[bool, typer.Option("--include-embeddings", help="For jsonl.")] = False,
    dim: Annotated[
        int | None, typer.Option(help="For embeddings: project to so many numbers, by PCA on these tracks.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Only tracks for which this DuckDB expression over the columns is true, such as \"genre = 'rock' AND "
            'duration_s > 60".',
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of a format that a package has added; may be repeated.",
            show_default=False,
        ),
    ] = None,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Also what is no longer listed: deleted, renamed and changed files.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> int:
    """Write the rows of DEST for other programs."""
    import tonearm
    from tonearm.exports import export as library_export

    counts = tonearm.Library(dest).export(
        output,
        format=kind,
        where=where,
        all_versions=all_versions,
        overwrite=overwrite,
        **{
            "by": by,
            "min_score": min_score,
            "include_embeddings": include_embeddings,
            "dim": dim,
            **library_export.named_options(option or ()),
        },
    )
    print(
        f"{visible(str(counts.output))}: {counted(counts.num_tracks, 'track')} in {counted(counts.num_files, 'file')}"
    )
    if counts.num_unlisted:
        print(
            f"left out: {counted(counts.num_unlisted, 'track')} that are no longer listed; --all-versions takes them "
            "too"
        )
    return 0
