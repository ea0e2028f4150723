"""Models: ``models`` shows them and adds some, ``train`` makes one, ``evaluate`` judges it, ``publish`` sends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.help import MODELS, Verb, VerbWithParts
from tonearm.cli.options import CONFIG, DEMO_MODELS, Given, Json, VerbOption, settings, with_flags
from tonearm.cli.verbs import models_add, models_convert
from tonearm.errors import UsageError
from tonearm.heads import read_flags
from tonearm.settings import DistillSettings, LabelSettings, ModelSettings, TagSettings, TrainSettings

Labelled = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder with a folder per class, a table (.csv, .parquet, .jsonl), a saved data set or "
        "hf://datasets/OWNER/NAME.",
    ),
]
ASSIGN = VerbOption(
    "set",
    Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as augment.mixup=0.3; may be repeated."),
    ],
)
TRAIN_CONFIG = dataclasses.replace(
    CONFIG,
    annotation=Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with the settings; by default [train] of ./tonearm.toml."),
    ],
)
DISTILL_CONFIG = dataclasses.replace(
    CONFIG,
    annotation=Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with the settings; [distill] of ./tonearm.toml without it."),
    ],
)
SPLITS = ("label_by", "group_by", "split_by", "validation_on", "test_on", "validation_share", "duplicates")
CALIBRATION, CARD = "Calibration", "The model card"


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    group = typer.Typer(cls=VerbWithParts, invoke_without_command=True, pretty_exceptions_enable=False)
    group.callback()(models)
    group.command(cls=Verb)(models_add.add)
    group.command(cls=Verb)(models_convert.convert)
    app.add_typer(group, name="models", rich_help_panel=MODELS)
    for verb in (train, distill, evaluate, publish):
        app.command(cls=Verb, rich_help_panel=MODELS)(verb)


@with_flags(settings(ModelSettings, "genre_model", "tag_model", "heads"), DEMO_MODELS, CONFIG)
def models(context: typer.Context, json_output: Json = False, *, flags: Given) -> int:
    """Show what each head is made of: family, labels, windows, size."""
    if context.invoked_subcommand is not None:
        return 0
    from tonearm.cli.models import models as printer

    return printer(as_json=json_output, **flags)


@with_flags(settings(TrainSettings), settings(LabelSettings), ASSIGN, TRAIN_CONFIG)
def train(
    source: Labelled,
    out: Annotated[str, typer.Option(metavar="MODEL", help="Folder or object-store prefix for the model.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json_output: Json = False,
    *,
    flags: Given,
) -> int:
    """Fine-tune a classifier on labelled audio; run again to resume."""
    from tonearm.cli.training import train as printer

    return printer.train(source, out, overwrite=overwrite, as_json=json_output, **flags)


@with_flags(settings(DistillSettings), settings(LabelSettings, *SPLITS), ASSIGN, DISTILL_CONFIG)
def distill(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="The model to learn from: a folder or hub id.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Audio as for tag or train; it needs no labels.")],
    out: Annotated[str, typer.Option(metavar="MODEL", help="Folder or object-store prefix for the student.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json_output: Json = False,
    *,
    flags: Given,
) -> int:
    """Train a small model on what a large one says of SOURCE."""
    from tonearm.cli.training import distill as printer

    return printer.distill(teacher, source, out, overwrite=overwrite, as_json=json_output, **flags)


@with_flags(
    settings(LabelSettings, "label_by", "multi_label", "skip_unlabelled", "split_by"),
    settings(ModelSettings, "precision"),
    settings(TagSettings, "max_windows", "workers", "max_error_rate", "verbose"),
    CONFIG,
)
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder or hub id; left out with --head.")],
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="Labelled audio, as for train.")] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=MODEL[:KIND]",
            help="Judge a head, given as to tag, in place of MODEL.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder for figures, pictures and a list of the clips.")
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE", help="Only clips of this value of --split-by; may be repeated."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit a temperature and thresholds and keep them with the model.",
            rich_help_panel=CALIBRATION,
        ),
    ] = False,
    wanted_precision: Annotated[
        float,
        typer.Option(
            "--wanted-precision",
            "--target-precision",
            min=0.01,
            max=1.0,
            metavar="SHARE",
            help="The share of shown tags that should be right.",
            rich_help_panel=CALIBRATION,
        ),
    ] = 0.9,
    json_output: Json = False,
    *,
    flags: Given,
) -> int:
    """Judge MODEL on labelled audio: accuracy, F1, mAP, intervals."""
    from tonearm.cli.training import evaluate as printer

    head_name, model, source = _judged(model, source, head)
    return printer.evaluate(
        model,
        source,
        head=head_name,
        out=out,
        on=on or (),
        calibrate=calibrate,
        wanted_precision=wanted_precision,
        as_json=json_output,
        **flags,
    )


def _judged(model: str, source: str | None, head: str | None) -> tuple[str | None, str, str]:
    """Return the head's name, its model and the source; with --head the only argument is the source."""
    if head is not None:
        if source is not None:
            raise UsageError(f"got MODEL {model} together with --head {head}; give one or the other")
        ((name, given),) = read_flags([head]).items()
        return name, given, model
    if source is None:
        raise UsageError(f"got MODEL {model} and no SOURCE; give the labelled audio to judge it on")
    return None, model, source


def publish(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="What `tonearm train --out MODEL` has written.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be pushed, and push nothing.")] = False,
    license: Annotated[
        str | None,
        typer.Option(metavar="LICENSE", help="License of the model, such as apache-2.0.", rich_help_panel=CARD),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Hub id of a data set; may be repeated.", rich_help_panel=CARD),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Hub id of the base model; by default what the card says.", rich_help_panel=CARD
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="A tag for the card; may be repeated.", rich_help_panel=CARD)
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="Message of the commit.")] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write a Gradio Space to this folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the Space that is there.")] = False,
    json_output: Json = False,
) -> int:
    """Push a trained model and its card to the Hugging Face Hub."""
    from tonearm.cli.training.publish import publish as printer

    return printer(
        folder,
        repo,
        private=private,
        dry_run=dry_run,
        license=license,
        datasets=dataset or (),
        base_model=base_model,
        tags=tag or (),
        message=message,
        space=space,
        overwrite=overwrite,
        as_json=json_output,
    )
