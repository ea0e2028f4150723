"""``tonearm models convert``: a published checkpoint of EfficientAT as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.options import Json
from tonearm.cli.output import Output
from tonearm.models.exported.labels import read_labels

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A published checkpoint of EfficientAT, such as mn10_as_mAP_471.pt.")
]
Out = Annotated[str, typer.Option(metavar="FOLDER", help="Folder for the model.")]
Labels = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Its labels in the order of its scores: a CSV, a JSON list, or one per line."),
]
Hop = Annotated[
    float, typer.Option(min=1.0, max=1000.0, metavar="MS", help="Hop of its spectrograms; 15 for mn10_as_hop_15.")
]
Bands = Annotated[int, typer.Option(min=1, metavar="N", help="Bands of its spectrograms; 64 for mn10_as_mels_64.")]
SingleLabel = Annotated[bool, typer.Option("--single-label", help="Each clip gets exactly one label.")]


def convert(
    file: File,
    out: Out,
    labels: Labels,
    hop_ms: Hop = 10.0,
    mel_bins: Bands = 128,
    single_label: SingleLabel = False,
    json_output: Json = False,
) -> int:
    """Make a model folder from a published checkpoint of EfficientAT."""
    from tonearm.models.networks import efficientat

    num_parameters = efficientat.convert(
        file,
        out,
        read_labels(labels),
        hop_length=round(32 * hop_ms),
        num_mel_bins=mel_bins,
        is_multi=not single_label,
    )
    output = Output(json_output)
    output.say(f"{out}: {num_parameters / 1e6:.2f} M parameters")
    output.say(f"use it: tonearm tag SOURCE --{'genre' if single_label else 'tag'}-model {out} --out RUN")
    output.result({"model": out, "num_parameters": num_parameters})
    return 0
