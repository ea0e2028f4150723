"""Which settings are also flags of the command, and what ``--help`` and the docs say of each: every flag once.

The name, type, choices and default of a flag are those of its field in ``settings``; here is only what a dataclass
does not say. It loads no typer, so that what reads settings stays cheap to import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from tonearm.errors import SettingsError
from tonearm.heads import read_flags
from tonearm.settings import (
    DistillSettings,
    LabelSettings,
    ModelSettings,
    ServeSettings,
    TagSettings,
    TrainSettings,
)

MODELS, RUN, LABELS, TRAINING, SERVER, KEYS = "Models", "Run", "Labels and splits", "Training", "Server", "Access"
STUDENT = "The student"


@dataclasses.dataclass(frozen=True)
class Flag:
    """What a field's flag has besides the field's own name, type and default.

    Attributes:
        help: one sentence for ``--help``; the default is added to it.
        panel: the heading in ``--help`` under which it stands.
        metavar: what stands for the value; by default the choices, or the type.
        name: where the flag is not called as the field, such as ``--head`` for ``heads``.
        off: the flag that says the opposite, for a yes or no that may also be left open.
        keyword: the keyword argument of the library's function, where that is not the field's name.
        choices: the values, where they are others than the field's type says.
        read: makes the value out of all texts of a flag that may be repeated.
    """

    help: str
    panel: str
    metavar: str | None = None
    name: str | None = None
    off: str | None = None
    keyword: str | None = None
    choices: tuple[str, ...] = ()
    read: Callable[[Sequence[str]], object] | None = None


def read_fallback_flags(texts: Iterable[str]) -> dict[str, str]:
    """Return what ``--fallback HEAD=MODEL[:THRESHOLD]``, repeated, puts into the table ``[fallback]``.

    Raises:
        SettingsError: no such form, or one head twice.
    """
    models: dict[str, str] = {}
    for text in texts:
        name, _, model = text.partition("=")
        if not name or not model:
            raise SettingsError(f"got --fallback {text!r}, expected HEAD=MODEL or HEAD=MODEL:THRESHOLD")
        if name in models:
            raise SettingsError(f"got --fallback {name}= twice; a head has one model to fall back on")
        models[name] = model
    return models


VERBOSE = Flag("Let Ray's own log through to the terminal; otherwise it goes to a file that errors name.", RUN)
MAX_WINDOWS = Flag("At most N windows per head and track, spread evenly.", RUN, "N")
EPOCHS = Flag("Passes over the clips.", TRAINING, "N")
BATCH_SIZE = Flag("Clips per batch of a worker.", TRAINING, "N")
LEARNING_RATE = Flag("The highest learning rate.", TRAINING, "RATE")
TRAIN_PRECISION = Flag(
    "Number format; auto takes what trains fastest on this machine.", TRAINING, choices=("auto", "fp32", "bf16", "fp16")
)
SEED = Flag("The same seed makes the same split, order and augmentation.", TRAINING, "N")
NEW_HEAD = Flag("Replace the classifier of a model that knows other labels.", TRAINING)
TRAIN_WORKERS = Flag("Training workers; one per GPU, or one, by default.", RUN, "N")
TRACKERS = Flag(
    "Where the figures of each step go; may be repeated.",
    RUN,
    name="--tracker",
    keyword="tracker",
    choices=("tensorboard", "wandb", "mlflow", "none"),
)
FIELD = "'folder', 'name:REGEX' (its first group, matched in the path) or a column"

FLAGS: Mapping[type, Mapping[str, Flag]] = {
    ModelSettings: {
        "genre_model": Flag("Model folder or hub id of the genre head, or 'none'.", MODELS, "MODEL"),
        "tag_model": Flag("Model folder or hub id of the tags head, or 'none'.", MODELS, "MODEL"),
        "heads": Flag(
            "A further head: its columns are named after NAME, MODEL is a folder or hub id. KIND is single (one label "
            "per track), multi (any number) or embedding (none); by default what the model says. May be repeated.",
            MODELS,
            "NAME=MODEL[:KIND]",
            name="--head",
            read=read_flags,
        ),
        "runtime": Flag("What runs the models; auto takes the fastest one on this machine.", MODELS),
        "precision": Flag("Number format of the models; auto takes the fastest with the same labels.", MODELS),
        "force_precision": Flag("Use --precision also where it is no faster, or wrong on a GPU.", MODELS),
        "calibrated": Flag("Use the temperature and thresholds that `tonearm evaluate` has fitted.", MODELS),
    },
    TagSettings: {
        "fallback": Flag(
            "The model that windows go to of which the model of HEAD is unsure: its highest score is below THRESHOLD, "
            "by default the one that `tonearm distill` has found. May be repeated, once a head.",
            MODELS,
            "HEAD=MODEL[:THRESHOLD]",
            read=read_fallback_flags,
        ),
        "max_windows": MAX_WINDOWS,
        "workers": Flag("Scoring workers; one per GPU, or one, by default.", RUN, "N"),
        "limit": Flag("Only the first N tracks listed.", RUN, "N"),
        "max_error_rate": Flag("Exit 3 when a larger share of the tracks failed.", RUN, "SHARE"),
        "verbose": VERBOSE,
    },
    LabelSettings: {
        "label_by": Flag(f"Where the labels are: {FIELD}.", LABELS, "FIELD"),
        "multi_label": Flag(
            "A track may have several labels, or has exactly one; by default as the labels or the model say.",
            LABELS,
            off="--single-label",
        ),
        "skip_unlabelled": Flag("Leave out clips without a label.", LABELS),
        "group_by": Flag(
            "Field such as the artist; all clips of a group stay on one side of the split.", LABELS, "FIELD"
        ),
        "source_by": Flag(
            "Field that may leak the label, such as the origin; the model card says how well it predicts the label.",
            LABELS,
            "FIELD",
        ),
        "split_by": Flag("How to split: stratified, gtzan-fault-filtered or a field.", LABELS, "FIELD"),
        "validation_on": Flag(
            "A value of --split-by whose clips are for validation; may be repeated.", LABELS, "VALUE"
        ),
        "test_on": Flag("A value of --split-by whose clips are for the test; may be repeated.", LABELS, "VALUE"),
        "validation_share": Flag(
            "Share of the clips held out for validation, without --validation-on.", LABELS, "SHARE"
        ),
        "duplicates": Flag("What to do with copies of a clip on both sides of the split.", LABELS),
    },
    TrainSettings: {
        "model": Flag("Model folder or hub id to start from, or small-hubert, small-ast.", TRAINING, "MODEL"),
        "from_scratch": Flag("Start from random weights.", TRAINING),
        "new_head": NEW_HEAD,
        "window_s": Flag("Seconds per clip; the model's own, or 30, by default.", TRAINING, "SECONDS"),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "precision": TRAIN_PRECISION,
        "seed": SEED,
        "freeze_feature_encoder": Flag("Do not train the convolutional feature encoder.", TRAINING),
        "workers": TRAIN_WORKERS,
        "trackers": TRACKERS,
        "verbose": VERBOSE,
    },
    DistillSettings: {
        "model": Flag(
            "mn04, mn10, small-ast or another architecture, or a model folder or hub id to go on with.",
            STUDENT,
            "MODEL",
            name="--student",
            keyword="student",
        ),
        "new_head": dataclasses.replace(NEW_HEAD, panel=STUDENT),
        "target_agreement": Flag(
            "Share of windows whose first label is to be the teacher's once it is asked about the unsure ones.",
            STUDENT,
            "SHARE",
        ),
        "teacher_precision": Flag("Number format of the teacher; auto takes the fastest that says the same.", RUN),
        "max_windows": Flag("At most N windows per track, spread evenly.", RUN, "N"),
        "window_s": Flag("Seconds per window; the teacher's own by default.", TRAINING, "SECONDS"),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "precision": TRAIN_PRECISION,
        "seed": SEED,
        "workers": dataclasses.replace(TRAIN_WORKERS, help="Workers that score and train; one per GPU, or one."),
        "trackers": TRACKERS,
        "verbose": VERBOSE,
    },
    ServeSettings: {
        "host": Flag("Address to listen on; any but this machine's own needs API keys.", SERVER, "ADDRESS"),
        "port": Flag("Port to listen on.", SERVER, "PORT"),
        "root_path": Flag("Path under which a reverse proxy serves this, such as /tonearm.", SERVER, "PATH"),
        "engine": Flag(
            "process: decode and score on this machine; ray: in deployments of Ray Serve; auto chooses.", SERVER
        ),
        "access_log": Flag("File for one JSON line per request; stdout by default.", SERVER, "FILE"),
        "max_windows": dataclasses.replace(MAX_WINDOWS, panel=SERVER),
        "verbose": dataclasses.replace(VERBOSE, panel=SERVER),
        "api_key_file": Flag("File of lines NAME:SHA256; TONEARM_API_KEYS may hold such lines too.", KEYS, "FILE"),
        "allow_uris": Flag(
            "Prefix that /v1/bulk may read, such as s3://records/; may be repeated; none by default.",
            KEYS,
            "PREFIX",
            name="--allow-uri",
        ),
        "allow_origins": Flag(
            "Origin whose pages may send requests, such as https://music.example, or * for any; may be repeated.",
            KEYS,
            "ORIGIN",
            name="--allow-origin",
        ),
        "rate_limit": Flag("Requests per key, such as 60/minute.", KEYS, "RATE"),
    },
}


def flag_name(field: str, flag: Flag) -> str:
    """Return ``--max-windows`` for ``max_windows``, or the name that the flag has of its own."""
    return flag.name or f"--{field.replace('_', '-')}"
