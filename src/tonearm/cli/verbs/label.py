"""Labelling a library: ``tag``, ``plan`` and ``status``."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.help import LABEL, Verb
from tonearm.cli.options import CONFIG, DEMO_MODELS, Given, Json, settings, with_flags
from tonearm.settings import ModelSettings, TagSettings

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Folder, file, glob, s3://, gs://, az://, https://, a table (.parquet, .csv, .jsonl with a uri column), "
        "hf://datasets/OWNER/NAME or a saved data set. One or several.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="What `tonearm tag --out RUN` has written.")]
TAGGING = (*settings(ModelSettings), DEMO_MODELS, *settings(TagSettings), CONFIG)
PLANNED = "Assumptions"


def _price(what: str) -> object:
    """Return the option for what one of the machines' parts costs."""
    help_text = f"Price of one {what} for an hour."
    return typer.Option(min=0, metavar="MONEY", help=help_text, rich_help_panel=PLANNED, show_default=False)


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (tag, plan, status):
        app.command(cls=Verb, rich_help_panel=LABEL)(verb)


@with_flags(TAGGING)
def tag(
    source: Sources,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Folder or object-store prefix for rows and report; without it, labels of single files are printed.",
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Also retry the tracks that failed in earlier runs.")
    ] = False,
    rescore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEAD",
            help="Score this head, such as genre, again where its columns have other settings; may be repeated.",
        ),
    ] = None,
    json_output: Annotated[
        bool,
        typer.Option("--json", help="Print the run's summary as one JSON document; without --out, one line per file."),
    ] = False,
    *,
    flags: Given,
) -> int:
    """Label every track of SOURCE; run again to resume or extend.

    Without --out it prints the labels of single files and writes nothing.
    """
    if out is None:
        from tonearm.cli.tag_files import check_flags, tag_files

        check_flags({**flags, "retry_errors": retry_errors or None, "rescore": rescore or None})
        return tag_files(source, as_json=json_output, **flags)
    from tonearm.cli import tag as printer

    return printer.tag(source, out, retry_errors=retry_errors, rescore=rescore or (), as_json=json_output, **flags)


@with_flags(TAGGING)
def plan(
    source: Sources,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Leave out the tracks that are done there, and keep the estimate there to compare it with the run.",
        ),
    ] = None,
    decode_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="RATE",
            help="Seconds of audio that a core decodes per second; measured by default.",
            rich_help_panel=PLANNED,
        ),
    ] = None,
    forward_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="RATE",
            help="Seconds of audio that a worker scores with all heads per second; measured by default.",
            rich_help_panel=PLANNED,
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Cores to plan for; by default those of this machine, or of the cluster at RAY_ADDRESS.",
            rich_help_panel=PLANNED,
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="GPUs to plan for; with --cpus, none by default.", rich_help_panel=PLANNED
        ),
    ] = None,
    cpu_price: Annotated[float, _price("core")] = 0.0,
    gpu_price: Annotated[float, _price("GPU")] = 0.0,
    json_output: Json = False,
    *,
    flags: Given,
) -> int:
    """Estimate what tagging SOURCE would take.

    Hours of audio, formats, tracks that will not decode, time and money.
    """
    from tonearm.cli.plan import plan as printer

    return printer(
        source,
        out,
        as_json=json_output,
        decode_rate=decode_rate,
        forward_rate=forward_rate,
        cpus=cpus,
        gpus=gpus,
        cpu_price=cpu_price,
        gpu_price=gpu_price,
        **flags,
    )


def status(run: Run, json_output: Json = False) -> int:
    """Show the progress of RUN, from any machine that can read it."""
    from tonearm.cli.results.status import status as printer

    return printer(run, as_json=json_output)
