"""What each job can be told, as frozen dataclasses; read from TOML and overridden by flags.

Precedence: flag, then ``--config FILE`` (or ``./tonearm.toml``), then the defaults here; ``api.flags`` says which
tables of the file. An unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from tonearm.heads import PUBLISHED, FallbackSettings, HeadSettings, check_names
from tonearm.origins import check_origins, check_root_path
from tonearm.settings_files import build as build
from tonearm.settings_files import merge as merge
from tonearm.settings_files import read_toml as read_toml

Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Positive = Annotated[int, Ge(1)]
# TOML can write inf and nan. nan passes no comparison, so that the upper bound refuses it too.
Seconds = Annotated[float, Gt(0), Lt(math.inf)]
Share = Annotated[float, Ge(0), Le(1)]
AboveZero = Annotated[float, Gt(0), Lt(math.inf)]
NotNegative = Annotated[float, Ge(0), Lt(math.inf)]

BASE_MODEL = "ntu-spml/distilhubert"
GENRE_MODEL = "sanchit-gandhi/distilhubert-finetuned-gtzan"
TAG_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"
# Of a track that are scored, and of one that a server takes, unless told otherwise: longer ones are rare mixes.
MAX_TRACK_S = 4 * 3600.0


@dataclasses.dataclass(frozen=True)
class FetchSettings:
    """How objects are read from a store.

    Attributes:
        max_bytes: of one object; a larger one fails with ``too_large``.
        timeout_s: for one object, all attempts together.
        stall_timeout_s: how long a connection may be silent before the attempt counts as failed.
        num_attempts: per object, the first one included.
        backoff_s: wait before the second attempt; it doubles with each further one.
        concurrency: reads ahead of each decoder.
    """

    max_bytes: Positive = 2**30
    timeout_s: Seconds = 300.0
    stall_timeout_s: Seconds = 30.0
    num_attempts: Positive = 5
    backoff_s: NotNegative = 0.5
    concurrency: Positive = 4


@dataclasses.dataclass(frozen=True)
class DecodeSettings:
    """How bytes become a waveform, and what a decoder may take while it does.

    Attributes:
        timeout_s: for decoding one track; then its process is ended, and the track fails.
        max_memory_bytes: of one decoding process.
        max_scored_s: at most this much of a track is scored, spread evenly over it.
    """

    timeout_s: Seconds = 300.0
    max_memory_bytes: Positive = 2 * 2**30
    max_scored_s: Seconds = MAX_TRACK_S


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Which models score a track, and how. ``None`` turns a head off.

    Attributes:
        genre_revision, tag_revision: commit, tag or branch of a hub id; its main branch by default.
        genre_window_s, tag_window_s: seconds that the model scores at once; the model's own by default.
        batch_size: windows of one forward pass; by default what suits the device.
        top_tags: tags kept per track, those that score most.
        top_window_tags: tags kept per window of the timeline.
        allow_pickle: load weights that are pickled, which may run any code; only for models that you trust.
        heads: further heads by name; see ``heads.read_heads`` for what a file has.
        force_precision: use a precision also where it is no faster on this processor than a closer one, or where the
            scores of a GPU in it are not those of fp32.
        int8_guard: fall back to a closer precision unless int8 agrees with fp32; false uses int8 unchecked.
    """

    genre_model: str | None = GENRE_MODEL
    tag_model: str | None = TAG_MODEL
    genre_revision: str | None = None
    tag_revision: str | None = None
    genre_window_s: Seconds | None = None
    tag_window_s: Seconds | None = None
    runtime: Runtime = "auto"
    precision: Precision = "auto"
    batch_size: Positive | None = None
    top_tags: Positive = 20
    top_window_tags: Annotated[int, Ge(0)] = 3
    allow_pickle: bool = False
    calibrated: bool = False
    int8_guard: bool = True
    force_precision: bool = False
    heads: Mapping[str, HeadSettings] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_names(self.heads)

    def named(self) -> dict[str, HeadSettings | None]:
        """Return every head by name, None where it is off: the published ones, then ``heads`` in their order."""
        named: dict[str, HeadSettings | None] = {}
        for name, head in PUBLISHED.items():
            model, revision, window_s = (getattr(self, f"{head.prefix}_{x}") for x in ("model", "revision", "window_s"))
            named[name] = None if model is None else HeadSettings(model, head.activation, revision, window_s)
        return {**named, **self.heads}


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """How long a run waits for a cluster that may recover, before it stops resumably.

    Attributes:
        head_timeout_s: how long to wait until Ray's head node is started again; Ray itself ends the driver after 150 s.
        shrunk_timeout_s: how long to wait for nodes to score or decode on, once they were lost, on a cluster that does
            not grow by itself.
    """

    # Below Ray's 150 s, so that there is time to say why and to clean up.
    head_timeout_s: Annotated[float, Gt(0), Le(120)] = 40.0
    shrunk_timeout_s: Seconds = 60.0


@dataclasses.dataclass(frozen=True)
class TagSettings:
    """One tagging run.

    Attributes:
        fallback: by head, the model that windows go to of which the head's own is unsure.
        tracks_per_block: tracks of one Ray Data block, the unit that is done again when a worker is lost; by default
            what suits their number.
    """

    models: ModelSettings = ModelSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings()
    cluster: ClusterSettings = ClusterSettings()
    fallback: Mapping[str, FallbackSettings] = dataclasses.field(default_factory=dict, hash=False)
    max_windows: Positive | None = None
    workers: Positive | None = None
    limit: Positive | None = None
    max_error_rate: Annotated[float, Ge(0), Le(1)] = 0.1
    tracks_per_block: Positive | None = None
    verbose: bool = False


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """Where a collection keeps its labels, and how it is split; see ``sources.labelled`` for what a field is.

    Attributes:
        split_by: ``stratified``, ``gtzan-fault-filtered``, or a field whose values name the splits.
        validation_on, test_on: values of that field; without them train, validation and test by their usual names.
        validation_share: of the training side, where no value names the validation clips.
        source_by: a field that may leak the label, such as a track's origin; how well it does is reported.
        duplicates: ``report`` clips that stand on both sides of a split, ``drop`` them from training, or ``ignore``.
        multi_label: None for what the labels look like.
    """

    label_by: str | None = None
    group_by: str | None = None
    source_by: str | None = None
    split_by: str = "stratified"
    validation_on: tuple[str, ...] = ()
    test_on: tuple[str, ...] = ()
    validation_share: Annotated[float, Ge(0), Lt(1)] = 0.1
    duplicates: Literal["report", "drop", "ignore"] = "report"
    multi_label: bool | None = None
    skip_unlabelled: bool = False


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """What is done to a clip each time it is seen; all of it off but the random crop. Seeded by clip and epoch.

    Attributes:
        crop: take a random window of a longer clip instead of its middle.
        roll: turn the crop round by a random time, its end joined to its start.
        gain_db: change the level by up to this many decibels either way.
        tilt_db: tilt the spectrum by up to this many decibels per octave either way.
        bandwidth_hz: take out what is above a random frequency, at least this one, as low bit rates do.
        noise_db: add white noise, at least this many decibels below the clip.
        speed: play faster or slower by up to this share.
        time_masks, frequency_masks: masks of SpecAugment per clip (arXiv:1904.08779).
        time_mask_s, frequency_mask_share: the longest such mask, in seconds and as a share of the bands.
        mixup: alpha of the Beta distribution (arXiv:1710.09412).
    """

    crop: bool = True
    roll: bool = False
    gain_db: NotNegative = 0.0
    tilt_db: NotNegative = 0.0
    bandwidth_hz: AboveZero | None = None
    noise_db: AboveZero | None = None
    speed: Annotated[float, Ge(0), Lt(1)] = 0.0
    time_masks: Annotated[int, Ge(0)] = 0
    time_mask_s: Seconds = 1.0
    frequency_masks: Annotated[int, Ge(0)] = 0
    frequency_mask_share: Annotated[float, Gt(0), Lt(1)] = 0.15
    mixup: NotNegative = 0.0


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """One training run; the defaults are the recipe of the Hugging Face audio course, unit 4.

    Attributes:
        model: a folder or hub id, or ``small-hubert``, ``small-ast``, ... with ``from_scratch``.
        from_scratch: start from random weights of that architecture.
        new_head: replace the classifier even where the model knows some of the labels.
        window_s: seconds per clip; the model's own, or 30.
        max_windows: of each track kept to learn from, evenly over it; held-out tracks are scored whole.
        revision: commit, tag or branch of a hub id.
        batch_size: clips per batch of a worker; a step has ``batch_size * accumulate * workers`` of them.
        accumulate: batches per step of the optimizer.
        weight_decay: of AdamW.
        warmup_ratio: share of the steps in which the learning rate grows to ``learning_rate``; then it falls to 0.
        clip_norm: the largest norm of a step's gradient; None for any.
        label_smoothing: share of the target that is spread over all labels.
        class_weights: weigh a label's clips by how rare it is.
        evaluate_every: epochs between two evaluations.
        keep: the ``best`` evaluation's weights, or the ``last``.
        metric: what is best; accuracy, or macro_map with several labels, unless named.
        patience: evaluations without a better one before it stops; None for never.
        checkpoint_steps: steps between two snapshots, besides the one at each evaluation.
        compare_split: a second run on this split, for its figures alone; ``none`` for none, even with GTZAN.
        log_steps: steps between two lines for the trackers.
        max_failures: how often a training resumes from its last snapshot when a worker is lost.
        max_error_rate: status 3 when a larger share of the clips cannot be decoded.
        note: a sentence for the model card.
        license: for the model card, such as ``cc-by-4.0``.
        cache: the folder of decoded clips; the user's cache folder by default.
    """

    model: str = BASE_MODEL
    revision: str | None = None
    from_scratch: bool = False
    new_head: bool = False
    window_s: Seconds | None = None
    max_windows: Positive = 8
    epochs: Positive = 10
    batch_size: Positive = 8
    accumulate: Positive = 1
    learning_rate: AboveZero = 5e-5
    weight_decay: NotNegative = 0.0
    warmup_ratio: Share = 0.1
    clip_norm: AboveZero | None = 1.0
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    class_weights: bool = False
    freeze_feature_encoder: bool = False
    precision: Precision = "auto"
    seed: int = 42
    evaluate_every: Positive = 1
    keep: Literal["best", "last"] = "best"
    metric: Literal["auto", "accuracy", "macro_f1", "macro_map", "loss"] = "auto"
    patience: Positive | None = None
    checkpoint_steps: Positive = 500
    log_steps: Positive = 10
    workers: Positive | None = None
    max_failures: Annotated[int, Ge(0)] = 3
    max_error_rate: Share = 0.1
    compare_split: str | None = None
    note: str | None = None
    license: str | None = None
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    cache: str | None = None
    verbose: bool = False
    labels: LabelSettings = LabelSettings()
    augment: AugmentSettings = AugmentSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings()


@dataclasses.dataclass(frozen=True)
class DistillSettings(TrainSettings):
    """One distillation: a training whose targets are a teacher's scores of the same windows.

    Attributes:
        model: the student: an architecture, which begins with random weights, or a model's folder or hub id to go on
            with.
        window_s: seconds of the windows that both hear; the teacher's own.
        max_windows: of each track that the teacher scores and the student learns from or is judged by, evenly over it.
        teacher_precision: number format of the teacher.
        least_audio_s: with less in all, nothing is begun.
        target_agreement: share of windows whose first label is to be the teacher's once it is asked about those of
            which the student is unsure; the threshold for that is kept with the student.
    """

    model: str = "mn04"
    max_windows: Positive = 32
    epochs: Positive = 30
    batch_size: Positive = 16
    learning_rate: AboveZero = 1e-3
    weight_decay: NotNegative = 0.01
    evaluate_every: Positive = 5
    # The last weights: held-out windows that had chosen an epoch would flatter it.
    keep: Literal["best", "last"] = "last"
    metric: Literal["auto", "accuracy", "macro_f1", "macro_map", "loss"] = "loss"
    teacher_precision: Precision = "auto"
    least_audio_s: Seconds = 600.0
    target_agreement: Annotated[float, Gt(0), Le(1)] = 0.95
    labels: LabelSettings = LabelSettings(duplicates="drop")
    augment: AugmentSettings = AugmentSettings(mixup=0.3)


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """One server.

    Attributes:
        max_body_bytes: largest upload, and largest object that a bulk request names.
        max_buffered_bytes: largest sum of all bodies that one ingress replica holds at once.
        max_duration_s: longest track.
        body_timeout_s: how long a whole body may take to come.
        body_idle_timeout_s: how long the next part of a body may take to come.
        request_timeout_s: how long an answer may take once the whole body is there.
        max_queue: requests in progress at one ingress replica, waiting ones included; more get 503.
        max_bulk_uris: most URIs of one bulk request.
        bulk_concurrency: how many URIs of a bulk request are in progress at once.
        allow_uris: what a bulk request's URIs may begin with, such as ``s3://records/flac/``; nothing by default.
        api_keys: ``NAME:SHA256`` each, the key's digest in hexadecimal; without any only this machine is served.
        api_key_file: a file of such lines.
        allow_origins: whose pages may ask from a browser, such as ``https://music.example``, or ``*``; by default only
            the server's own page.
        root_path: the path under which a reverse proxy has the server, such as ``/tonearm``.
        rate_limit: requests per key (without keys, per address) and ingress replica, such as ``60/minute``.
        batch_windows: windows of one forward pass of a head at most, of any number of requests.
        batch_wait_s: how long a window waits for others when the model is idle; by default not at all on processors,
            and 5 ms on cards, where a pass over many costs hardly more than one over a few.
        decoders: child processes that decode: one per core by default, and two in a replica of ``engine = "ray"``.
        threads: threads of a head's replica on processors; one per core by default, for each head (bench/NOTES.md).
        access_log: a file to append one JSON line per request to; standard output by default.
        drain_timeout_s: how long requests in progress may take to end when the server is stopped.
        engine: ``process`` decodes (in child processes) and scores beside the listener, ``ray`` in deployments of Ray
            Serve; ``auto`` takes ``ray`` on a cluster (RAY_ADDRESS) and where there are CUDA cards.
        max_connections: at a time; beyond them those that have asked for nothing are closed, the oldest first.
        max_head_bytes: largest request line and header fields together.
        max_head_fields: most header fields of a request.
        head_timeout_s: how long a request's line and header fields may take, from their first byte (for the first
            request from the connection).
        keep_alive_s: how long a connection may wait for its next request.
        send_timeout_s: how long an answer may wait for a reader that takes nothing.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(1), Le(65535)] = 8000
    max_windows: Positive | None = None
    max_body_bytes: Positive = 256 * 2**20
    max_buffered_bytes: Positive = 2 * 2**30
    max_duration_s: Seconds = MAX_TRACK_S
    body_timeout_s: Seconds = 300.0
    body_idle_timeout_s: Seconds = 20.0
    request_timeout_s: Seconds = 900.0
    max_queue: Positive = 64
    max_bulk_uris: Positive = 10_000
    bulk_concurrency: Positive = 8
    allow_uris: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    api_key_file: str | None = None
    allow_origins: tuple[str, ...] = ()
    root_path: str = ""
    rate_limit: str | None = None
    batch_windows: Positive = 16
    batch_wait_s: NotNegative | None = None
    decoders: Positive | None = None
    threads: Positive | None = None
    access_log: str | None = None
    drain_timeout_s: Seconds = 60.0
    engine: Literal["auto", "process", "ray"] = "auto"
    max_connections: Positive = 1024
    max_head_bytes: Annotated[int, Ge(1024)] = 32 * 2**10
    max_head_fields: Positive = 100
    head_timeout_s: Seconds = 10.0
    keep_alive_s: Seconds = 15.0
    send_timeout_s: Seconds = 120.0
    verbose: bool = False
    models: ModelSettings = ModelSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings(timeout_s=120.0)

    def __post_init__(self) -> None:
        check_origins(self.allow_origins)
        check_root_path(self.root_path)
