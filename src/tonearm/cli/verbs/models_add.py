"""``tonearm models add``: an exported graph described and tried, or a named model fetched."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import Json
from tonearm.cli.output import Output
from tonearm.errors import UsageError
from tonearm.models.exported.named_models import NAMED
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.models.exported.add import Added

NAMES = "".join(f"{name}, " for name in NAMED) + ("or the" if NAMED else "The")


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"{NAMES} file of an exported graph: .onnx, .tflite or .xml.")
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its labels in the order of its scores: a CSV, a JSON list, or one per line."),
]
FrontEnd = Annotated[str | None, typer.Option(metavar="KIND", help="Its input: waveform or log-mel.")]
Rate = Annotated[int | None, typer.Option(metavar="HZ", help="Sample rate of its audio.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of the front end, such as n_fft=512, hop_length=160 or num_mel_bins=64; may be repeated.",
    ),
]
Window = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Seconds that it scores at once; by default the length of its input."),
]
Hop = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Seconds between two windows' starts; a window by default.")
]
Padding = Annotated[str | None, typer.Option(metavar="HOW", help="How a shorter window is filled: zeros or repeat.")]
Layout = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="Its input's axes, such as batch,mel,frames, where its shape is ambiguous.",
    ),
]
Activation = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What remains to be applied to its scores: none, sigmoid or softmax."),
]
MultiLabel = Annotated[
    bool | None, typer.Option("--multi-label/--single-label", help="Whether its labels are independent.")
]
Scores = Annotated[str | None, typer.Option(metavar="OUTPUT", help="Which output has the scores: its name or place.")]
Embedding = Annotated[
    str | None, typer.Option(metavar="OUTPUT", help="Which output, or tensor inside, is the embedding.")
]
Licence = Annotated[
    str | None,
    typer.Option("--licence", "--license", metavar="LICENCE", help="Licence of the model, such as Apache-2.0."),
]
Clip = Annotated[Path | None, typer.Option(metavar="FILE", help="Audio to try it on; a synthesized sound by default.")]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for the model; by default that of its file.")]
Wheel = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The package of a named model, if it cannot be downloaded here.")
]


def add(
    model: Model,
    labels: Labels = None,
    front_end: FrontEnd = None,
    rate: Rate = None,
    parameters: Parameters = None,
    window: Window = None,
    hop: Hop = None,
    padding: Padding = None,
    layout: Layout = None,
    activation: Activation = None,
    multi_label: MultiLabel = None,
    scores_output: Scores = None,
    embedding_output: Embedding = None,
    licence: Licence = None,
    clip: Clip = None,
    out: Out = None,
    wheel: Wheel = None,
    json_output: Json = False,
) -> int:
    """Describe an exported graph and try it on a clip, or fetch a model by its name."""
    output = Output(json_output)
    if model in NAMED and not Path(model).exists():
        folder = NAMED[model](model, wheel)
        output.say(f"{model}: {folder} (LICENSE and NOTICE are beside the weights)")
        # Without the hub the default genre model cannot be had, and a run with it would be refused.
        output.say(f"use it: tonearm tag SOURCE --tag-model {model} --genre-model none --out RUN")
        output.result({"model": model, "folder": str(folder)})
        return 0
    from tonearm.models.exported import add as graphs

    added = graphs.add(
        Path(model),
        labels=labels,
        front_end=front_end,
        rate=rate,
        parameters=dict(_assigned(text) for text in parameters or ()),
        out=out,
        clip=clip,
        window_s=window,
        hop_s=hop,
        padding=padding,
        layout=None if layout is None else [axis.strip() for axis in layout.split(",")],
        activation=activation,
        multi_label=multi_label,
        scores_output=_place_or_name(scores_output),
        embedding_output=_place_or_name(embedding_output),
        licence=licence,
    )
    _print(added, output)
    return 0


def _print(added: Added, output: Output) -> None:
    described = added.description
    kind = "multi-label" if added.multi_label else "single-label"
    for note in added.notes:
        output.say(f"note: {note}")
    audio = f"windows of {described.window_s:g} s at {described.sample_rate:,} Hz"
    size = f"an embedding of {counted(added.embedding_dim, 'number')}, {added.num_parameters / 1e6:.2f} M parameters"
    output.say(f"{described.file}: {counted(len(described.labels), 'label')} ({kind}), {audio}, {size}")
    output.say(f"of {added.clip} it says: " + ", ".join(f"{label} {score:.2f}" for label, score in added.top))
    flag = "tag" if added.multi_label else "genre"
    output.say(f"described in {added.folder}/tonearm.json")
    output.say(f"use it: tonearm tag SOURCE --{flag}-model {added.folder} --out RUN")
    scores = [{"label": label, "score": score} for label, score in added.top]
    facts = {"embedding_dim": added.embedding_dim, "num_parameters": added.num_parameters}
    output.result({"model": str(added.folder), **facts, "is_multi_label": added.multi_label, "clip": scores})


def _assigned(text: str) -> tuple[str, object]:
    name, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not name:
        raise UsageError(f"got --set {text}, expected name=value, such as --set n_fft=512")
    if value in ("none", "null"):
        return name, None
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _place_or_name(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text
