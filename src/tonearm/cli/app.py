"""The verbs. Each is named as the function it calls, and loads what it needs only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tonearm import __version__

app = typer.Typer(
    name="tonearm",
    help="Label a music library: genre, AudioSet tags, embeddings and a timeline, one row per track.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folder, file, glob, s3://, gs://, az://, https://, a manifest (.parquet, .csv, .jsonl with a uri column), "
        "hf://datasets/OWNER/NAME or a saved data set.",
    ),
]
DemoModels = Annotated[
    bool, typer.Option("--demo-models", help="Use the small built-in models, which know only synthesized music.")
]
GenreModel = Annotated[
    str | None, typer.Option(help="Checkpoint folder or hub id of the genre head, or 'none'.", show_default=False)
]
TagModel = Annotated[
    str | None, typer.Option(help="Checkpoint folder or hub id of the tags head, or 'none'.", show_default=False)
]
Config = Annotated[
    Path | None,
    typer.Option(help="TOML file with any of the settings; ./tonearm.toml is read without it.", show_default=False),
]


def version(value: bool) -> None:
    """Print the version and end."""
    if value:
        print(f"tonearm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Label a music library: genre, AudioSet tags, embeddings and a timeline, one row per track."""


@app.command()
def tag(
    source: Sources,
    out: Annotated[str, typer.Option(help="Folder or object-store prefix for the rows and the report.")],
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    demo_models: DemoModels = False,
    max_windows: Annotated[
        int | None, typer.Option(min=1, help="At most this many windows a head and track, evenly taken.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Scoring workers; one a GPU, or one, by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N tracks listed.")] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, torch or openvino.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = None,
    max_error_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit 3 when a larger share of tracks failed (0.1 by default).")
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Take up the failed tracks of earlier runs again.")
    ] = False,
    config: Config = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray says.")] = False,
) -> int:
    """Tag every track of SOURCE; run again to go on or to add what is new."""
    from tonearm.cli import tag as verb

    flags: dict[str, Any] = {
        "max_windows": max_windows,
        "workers": workers,
        "limit": limit,
        "max_error_rate": max_error_rate,
        "verbose": verbose or None,
        "models": {"runtime": runtime, "precision": precision},
    }
    settings = verb.tag_settings(flags, config, genre_model=genre_model, tag_model=tag_model, demo_models=demo_models)
    return verb.tag(source, out, settings, retry_errors=retry_errors, demo_models=demo_models)


@app.command()
def doctor() -> int:
    """Check this machine: memory, packages, storage, decoding, Ray, models."""
    from tonearm.cli.doctor import doctor as verb

    return verb()
