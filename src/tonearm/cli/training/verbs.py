"""The verbs of training: ``train``, ``evaluate`` and ``publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.errors import UsageError
from tonearm.heads import read_flags

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder with a folder a class, a table (.csv, .parquet, .jsonl), a saved data set or "
        "hf://datasets/OWNER/NAME.",
    ),
]
JudgedSource = Annotated[str | None, typer.Argument(metavar="SOURCE", help="Labelled audio, as for training.")]
JudgedHead = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=MODEL[:KIND]",
        help="Judge a head as `tonearm tag --head` takes it, in place of MODEL; KIND is single or multi.",
    ),
]
FIELD = "'folder', 'name:REGEX' (its first group, matched in the path) or a column"
LabelBy = Annotated[str | None, typer.Option(help=f"Where the labels are: {FIELD}.", show_default=False)]
GroupBy = Annotated[
    str | None, typer.Option(help="A field such as the artist; no group stands on both sides.", show_default=False)
]
SourceBy = Annotated[
    str | None, typer.Option(help="A field that may give the label away; the card says how well.", show_default=False)
]
SplitBy = Annotated[str | None, typer.Option(help="stratified, gtzan-fault-filtered or a field.")]
On = Annotated[list[str] | None, typer.Option(help="A value of --split-by; may be given again.")]

Model = Annotated[
    str | None, typer.Option(help="Checkpoint folder or hub id to begin with, or small-hubert, small-ast.")
]
NewHead = Annotated[bool, typer.Option("--new-head", help="Replace a classifier that knows other labels.")]
SkipUnlabelled = Annotated[bool, typer.Option("--skip-unlabelled", help="Leave out clips without a label.")]
Freeze = Annotated[bool, typer.Option("--freeze-feature-encoder", help="Keep the convolutions in front as they are.")]
Tracker = Annotated[
    list[str] | None, typer.Option(help="tensorboard (the default), wandb, mlflow or none; may be given again.")
]
Assign = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, as augment.mixup=0.3.")
]
TrainConfig = Annotated[
    Path | None, typer.Option(help="TOML file with the settings; [train] of ./tonearm.toml without it.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what Ray says.")]


def add(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(publish)


def train(
    source: Source,
    out: Annotated[str, typer.Option(help="Folder or object-store prefix for the model.")],
    model: Model = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin with random weights.")] = False,
    new_head: NewHead = False,
    label_by: LabelBy = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A clip may have several labels.")] = False,
    skip_unlabelled: SkipUnlabelled = False,
    group_by: GroupBy = None,
    source_by: SourceBy = None,
    split_by: SplitBy = None,
    validation_on: On = None,
    test_on: On = None,
    validation_share: Annotated[float | None, typer.Option(help="Held out where no value says which (0.1).")] = None,
    duplicates: Annotated[str | None, typer.Option(help="Clips on both sides: report, drop or ignore.")] = None,
    window_s: Annotated[float | None, typer.Option(help="Seconds a clip; the checkpoint's own, or 30.")] = None,
    epochs: Annotated[int | None, typer.Option(help="10 by default.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips a worker takes at once (8).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="5e-5 by default.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="42 by default.")] = None,
    freeze_feature_encoder: Freeze = False,
    workers: Annotated[int | None, typer.Option(help="Training workers; one a GPU, or one, by default.")] = None,
    tracker: Tracker = None,
    assign: Assign = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False,
    config: TrainConfig = None,
    verbose: Verbose = False,
) -> int:
    """Fine-tune a classifier on the labelled audio of SOURCE; run again to go on."""
    from tonearm.cli.training import train as verb

    return verb.train(
        source,
        out,
        model=model,
        from_scratch=from_scratch or None,
        new_head=new_head or None,
        label_by=label_by,
        multi_label=multi_label or None,
        skip_unlabelled=skip_unlabelled or None,
        group_by=group_by,
        source_by=source_by,
        split_by=split_by,
        validation_on=validation_on,
        test_on=test_on,
        validation_share=validation_share,
        duplicates=duplicates,
        window_s=window_s,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        freeze_feature_encoder=freeze_feature_encoder or None,
        workers=workers,
        tracker=tracker,
        set=assign or (),
        overwrite=overwrite,
        config=config,
        verbose=verbose or None,
    )


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint's folder or hub id; not with --head.")],
    source: JudgedSource = None,
    head: JudgedHead = None,
    out: Annotated[str | None, typer.Option(help="Folder for figures, pictures and a list of the clips.")] = None,
    label_by: LabelBy = None,
    multi_label: Annotated[
        bool | None, typer.Option("--multi-label/--single-label", help="What the checkpoint says by default.")
    ] = None,
    skip_unlabelled: SkipUnlabelled = False,
    split_by: SplitBy = None,
    on: Annotated[
        list[str] | None, typer.Option(help="Only clips of this value of --split-by; may be repeated.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature and thresholds and keep them with the model.")
    ] = False,
    wanted_precision: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="For --calibrate: the share of shown tags that should be right.")
    ] = 0.9,
    max_windows: Annotated[int | None, typer.Option(help="At most this many windows a track, evenly taken.")] = None,
    workers: Annotated[int | None, typer.Option(help="Scoring workers; one a GPU, or one, by default.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    max_error_rate: Annotated[
        float | None, typer.Option(help="Exit 3 when a larger share of clips failed (0.1 by default).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of the settings of tagging.")] = None,
    verbose: Verbose = False,
) -> int:
    """Judge MODEL on the labelled audio of SOURCE: accuracy, F1, mAP, calibration, with intervals."""
    from tonearm.cli.training import evaluate as verb

    name, model, source = _judged(model, source, head)
    return verb.evaluate(
        model,
        source,
        head=name,
        out=out,
        on=on or (),
        calibrate=calibrate,
        wanted_precision=wanted_precision,
        label_by=label_by,
        multi_label=multi_label,
        skip_unlabelled=skip_unlabelled,
        split_by=split_by,
        max_windows=max_windows,
        workers=workers,
        precision=precision,
        max_error_rate=max_error_rate,
        config=config,
        verbose=verbose or None,
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
    folder: Annotated[Path, typer.Argument(metavar="DEST", help="What `tonearm train --out DEST` has written.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    license: Annotated[str | None, typer.Option(help="For the card, as apache-2.0 or cc-by-4.0.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Hub id of a data set; may be given again.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id; what the card says by default.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for the card; may be given again.")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    space: Annotated[Path | None, typer.Option(help="Also write a Gradio Space to this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the Space that is there.")] = False,
) -> int:
    """Push a trained model and its card to the Hugging Face Hub."""
    from tonearm.cli.training.publish import publish as verb

    return verb(
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
    )
