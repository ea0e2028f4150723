"""The verbs. Each is named as the function it calls, and loads what it needs only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm import __version__
from tonearm.api.flags import ModelFlags, RunFlags, serve_settings
from tonearm.cli import library_verbs
from tonearm.cli.convert_model import add, convert
from tonearm.cli.training import verbs
from tonearm.errors import UsageError
from tonearm.heads import read_flags

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
        help="Folder, file, glob, s3://, gs://, az://, https://, a manifest (.parquet, .csv, .jsonl with a uri "
        "column), hf://datasets/OWNER/NAME or a saved data set.",
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
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        metavar="NAME=MODEL[:KIND]",
        help="A further head: its columns are named after NAME, its MODEL is a folder or hub id. KIND is single (one "
        "label per track), multi (any number) or embedding (none); by default what the model says. May be repeated.",
        show_default=False,
    ),
]
MaxWindows = Annotated[int | None, typer.Option(help="At most this many windows a head and track, evenly taken.")]
Workers = Annotated[int | None, typer.Option(help="Scoring workers; one a GPU, or one, by default.")]
Limit = Annotated[int | None, typer.Option(help="Only the first N tracks listed.")]
Runtime = Annotated[str | None, typer.Option(help="auto, torch or openvino.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16 or int8.")]
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
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder or object-store prefix for the rows and the report; without it single files are shown here.",
            show_default=False,
        ),
    ] = None,
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    head: Heads = None,
    demo_models: DemoModels = False,
    max_windows: MaxWindows = None,
    workers: Workers = None,
    limit: Limit = None,
    runtime: Runtime = None,
    precision: Precision = None,
    max_error_rate: Annotated[
        float | None, typer.Option(help="Exit 3 when a larger share of tracks failed (0.1 by default).")
    ] = None,
    calibrated: Annotated[
        bool,
        typer.Option("--calibrated", help="Use the temperature and thresholds that `tonearm evaluate` has fitted."),
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Take up the failed tracks of earlier runs again.")
    ] = False,
    rescore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP",
            help="Make the columns of this head, such as genre, again where other settings made them; may be repeated.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json_output: Annotated[bool, typer.Option("--json", help="Without --out: print JSON, a line per file.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray says.")] = False,
) -> int:
    """Tag every track of SOURCE; run again to go on or to add what is new."""
    models: ModelFlags = {
        "genre_model": genre_model,
        "tag_model": tag_model,
        "demo_models": demo_models,
        "max_windows": max_windows,
        "runtime": runtime,
        "precision": precision,
        "calibrated": calibrated or None,
        "heads": read_flags(head or ()),
        "config": config,
    }
    run: RunFlags = {"workers": workers, "limit": limit, "max_error_rate": max_error_rate, "verbose": verbose or None}
    if out is None:
        from tonearm.cli.tag_files import check_flags, tag_files

        check_flags({**run, "retry_errors": retry_errors or None, "rescore": rescore})
        return tag_files(source, as_json=json_output, **models)
    from tonearm.cli import tag as verb

    if json_output:
        raise UsageError("got --json with --out, expected one of them; `tonearm status DEST --json` says it of a run")
    return verb.tag(source, out, retry_errors=retry_errors, rescore=rescore or (), **models, **run)


@app.command()
def plan(
    source: Sources,
    out: Annotated[
        str | None,
        typer.Option(help="Leave out what is done there; keep the estimate there, for the run's end."),
    ] = None,
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    head: Heads = None,
    demo_models: DemoModels = False,
    max_windows: MaxWindows = None,
    workers: Workers = None,
    limit: Limit = None,
    runtime: Runtime = None,
    precision: Precision = None,
    decode_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of audio a core decodes a second; measured by default.")
    ] = None,
    forward_rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds of audio a worker scores with all heads a second; measured by default."),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Of the cluster to plan for; this machine's or RAY_ADDRESS's by default.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Of that cluster.")] = None,
    cpu_price: Annotated[float, typer.Option(min=0, help="Of a core for an hour.")] = 0.0,
    gpu_price: Annotated[float, typer.Option(min=0, help="Of a GPU for an hour.")] = 0.0,
    max_error_rate: Annotated[float | None, typer.Option(help="As for tag; nothing fails here.")] = None,
    config: Config = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what tagging SOURCE would take: hours, formats, what will not decode, time and money."""
    from tonearm.cli.plan import plan as verb

    return verb(
        source,
        out,
        as_json=json_output,
        genre_model=genre_model,
        tag_model=tag_model,
        demo_models=demo_models,
        max_windows=max_windows,
        workers=workers,
        limit=limit,
        runtime=runtime,
        precision=precision,
        heads=read_flags(head or ()),
        decode_rate=decode_rate,
        forward_rate=forward_rate,
        cpus=cpus,
        gpus=gpus,
        cpu_price=cpu_price,
        gpu_price=gpu_price,
        max_error_rate=max_error_rate,
        config=config,
    )


@app.command()
def plot(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A track: a path or a URL.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path(),
    timeline: Annotated[bool, typer.Option("--timeline", help="Also score the track and draw its timeline.")] = False,
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    demo_models: DemoModels = False,
    max_windows: MaxWindows = None,
    config: Config = None,
) -> int:
    """Draw a track's waveform, spectrum, spectrogram and mel spectrogram as PNG."""
    from tonearm.cli.plot import plot as verb

    return verb(
        file,
        out,
        timeline=timeline,
        genre_model=genre_model,
        tag_model=tag_model,
        demo_models=demo_models,
        max_windows=max_windows,
        config=config,
    )


model_verbs = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)
model_verbs.command()(add)
model_verbs.command()(convert)
app.add_typer(model_verbs, name="models")


@model_verbs.callback()
def models(
    context: typer.Context,
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    head: Heads = None,
    demo_models: DemoModels = False,
    config: Config = None,
) -> int:
    """Show what the heads are made of: family, labels, windows, size."""
    if context.invoked_subcommand is not None:
        return 0
    from tonearm.cli.models import models as verb

    return verb(
        genre_model=genre_model,
        tag_model=tag_model,
        demo_models=demo_models,
        heads=read_flags(head or ()),
        config=config,
    )


verbs.add(app)
library_verbs.add(app)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on: 127.0.0.1 by default; any other needs API keys.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 by default.")] = None,
    genre_model: GenreModel = None,
    tag_model: TagModel = None,
    head: Heads = None,
    demo_models: DemoModels = False,
    max_windows: MaxWindows = None,
    runtime: Runtime = None,
    precision: Precision = None,
    calibrated: Annotated[
        bool,
        typer.Option("--calibrated", help="Use the temperature and thresholds that `tonearm evaluate` has fitted."),
    ] = False,
    allow_uri: Annotated[
        list[str] | None,
        typer.Option(help="Prefix that /v1/bulk may read, such as s3://records/; repeat for more. None by default."),
    ] = None,
    api_key_file: Annotated[
        str | None, typer.Option(help="File of lines NAME:SHA256; TONEARM_API_KEYS holds such lines too.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may ask, such as https://music.example; repeat for more, * for any."),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path under which a reverse proxy has this server, such as /tonearm.")
    ] = None,
    rate_limit: Annotated[str | None, typer.Option(help="Requests a key, such as 60/minute.")] = None,
    access_log: Annotated[str | None, typer.Option(help="File for one JSON line a request; stdout by default.")] = None,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make an API key for NAME, print it and end.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="process: decode and score on this machine; ray: in deployments of Ray Serve; auto chooses."),
    ] = None,
    config: Config = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray says.")] = False,
) -> int:
    """Serve the models over HTTP: Hugging Face's contract, bulk requests, and a page at /."""
    from tonearm.cli import serve as verb

    if new_key is not None:
        return verb.make_key(new_key)
    settings = serve_settings(
        {
            "host": host,
            "port": port,
            "genre_model": genre_model,
            "tag_model": tag_model,
            "demo_models": demo_models,
            "max_windows": max_windows,
            "runtime": runtime,
            "precision": precision,
            "calibrated": calibrated or None,
            "heads": read_flags(head or ()),
            "allow_uris": allow_uri or None,
            "api_key_file": api_key_file,
            "allow_origins": allow_origin or None,
            "root_path": root_path,
            "rate_limit": rate_limit,
            "access_log": access_log,
            "engine": engine,
            "config": config,
            "verbose": verbose or None,
        }
    )
    return verb.serve(settings, demo_models=demo_models)


@app.command()
def demo(
    library: Annotated[Path, typer.Option(help="Folder for the synthesized songs.")] = Path("demo-library"),
    out: Annotated[Path, typer.Option(help="Folder for the rows and the report.")] = Path("demo-out"),
    tracks: Annotated[int, typer.Option(min=1, help="How many songs.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed writes the same songs.")] = 0,
    workers: Workers = None,
) -> int:
    """Write a small library of synthesized songs and tag it with the built-in models."""
    from tonearm.cli.demo import demo as verb

    return verb(library, out, workers=workers, num_tracks=tracks, seed=seed)


@app.command()
def doctor() -> int:
    """Check this machine: memory, packages, storage, decoding, Ray, models."""
    from tonearm.cli.doctor import doctor as verb

    return verb()
