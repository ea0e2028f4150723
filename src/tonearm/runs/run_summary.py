"""The summary of one run, which ``runs/<run>.json`` holds and the report shows."""

from __future__ import annotations

import dataclasses
import datetime
import json
import posixpath
from collections.abc import Mapping
from typing import Any, TypeVar

from tonearm.errors import DestinationError
from tonearm.heads import PUBLISHED
from tonearm.storage import filesystems

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class FallbackFacts:
    """The model that a head's windows with no score of ``threshold`` went to: ``num_sent`` of ``num_windows``."""

    name: str
    revision: str
    threshold: float
    num_windows: int = 0
    num_sent: int = 0
    runtime: str = ""
    precision: str = ""
    device: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """The model of one head and how it ran; ``note`` says why it did not run as requested.

    ``passes`` is ``graphs`` or ``eager`` on a GPU. Where workers differ, the facts are those of the one that fell back
    furthest, and ``note`` says how many did.
    """

    name: str
    revision: str
    runtime: str = ""
    precision: str = ""
    window_s: float | None = None
    device: str = ""
    num_labels: int | None = None
    note: str = ""
    passes: str = ""
    fallback: FallbackFacts | None = None


@dataclasses.dataclass(frozen=True)
class MachineFacts:
    """The machine, or the whole cluster, that a run had."""

    cpu: str = ""
    num_cores: int = 0
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    num_nodes: int = 1


@dataclasses.dataclass(frozen=True)
class ManifestCounts:
    """What the sources listed. ``skipped`` counts files that are not audio, by extension."""

    num_tracks: int = 0
    num_bytes: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ResultCounts:
    """How the manifest's tracks ended. ``scored_share`` is seconds scored by every head over seconds of audio."""

    num_ok: int = 0
    num_error: int = 0
    errors_by_code: dict[str, int] = dataclasses.field(default_factory=dict)
    audio_s: float = 0.0
    scored_share: float = 1.0


@dataclasses.dataclass(frozen=True)
class SpeedFacts:
    """How fast a run was, over the tracks that it tagged itself.

    Attributes:
        span_s: from the first track's bytes to the last track's row, without startup and audit.
        peak_bytes: highest resident memory, by kind of process.
        busy_s: summed seconds, by stage.
        busy_share: ``busy_s`` as a share of the time that the stage's workers had in all.
        bottleneck: the stage that the others waited for, with the figures that show it.
        spilled_bytes: what Ray's object store wrote to disk because its memory was full.
    """

    num_tracks: int
    audio_s: float
    tracks_per_s: float
    audio_hours_per_hour: float
    span_s: float = 0.0
    peak_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    busy_s: dict[str, float] = dataclasses.field(default_factory=dict)
    busy_share: dict[str, float] = dataclasses.field(default_factory=dict)
    bottleneck: str = ""
    spilled_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class FoundLabels:
    """The most frequent labels of the library after a run, for its last lines; the most frequent first.

    Attributes:
        genres, num_genres: number of tracks of the largest genres, and how many genres there are.
        tags, num_tags: the same for the most telling tags with a score of at least 0.5.
        faint_tags: if no tag has such a score, the mean scores of the most telling ones.
        heads: for every other head with labels its most frequent ones; for tags those of at least 0.5.
    """

    genres: dict[str, int] = dataclasses.field(default_factory=dict)
    num_genres: int = 0
    tags: dict[str, int] = dataclasses.field(default_factory=dict)
    num_tags: int = 0
    faint_tags: dict[str, float] = dataclasses.field(default_factory=dict)
    heads: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """The summary of one run.

    Attributes:
        started, finished: UTC.
        genre_model, tag_model: None if the head was off.
        head_models: the models of all other heads; ``models()`` returns those of all heads that were on.
        notice: a line that every reader must see, such as that the demo models know only synthesized music.
    """

    run_id: str
    started: datetime.datetime
    finished: datetime.datetime
    wall_s: float
    command: str
    version: str
    genre_model: ModelFacts | None = None
    tag_model: ModelFacts | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    machine: MachineFacts = MachineFacts()
    manifest: ManifestCounts = ManifestCounts()
    results: ResultCounts = ResultCounts()
    speed: SpeedFacts | None = None
    found: FoundLabels | None = None
    notice: str | None = None
    head_models: dict[str, ModelFacts] = dataclasses.field(default_factory=dict)

    def models(self) -> dict[str, ModelFacts]:
        """Return the models of the heads that were on, by head."""
        published = {name: getattr(self, head.model) for name, head in PUBLISHED.items()}
        return {name: model for name, model in (published | self.head_models).items() if model is not None}

    def to_json(self) -> str:
        """Return the summary as indented JSON, times in ISO 8601."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, default=_json_value)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "run summary") -> RunSummary:
        """Return the summary in ``text``; missing parts get their defaults, and unknown ones are ignored.

        Args:
            where: name of the text in messages, such as its URL.

        Raises:
            DestinationError: not JSON, or not the summary of a run.
        """
        try:
            values = json.loads(text)
            return cls(
                **_known_fields(cls, values)
                | {
                    "started": _parse_utc(values["started"]),
                    "finished": _parse_utc(values["finished"]),
                    "genre_model": _model_facts(values.get("genre_model")),
                    "tag_model": _model_facts(values.get("tag_model")),
                    "machine": _machine_facts(values.get("machine")),
                    "manifest": _optional_part(ManifestCounts, values.get("manifest")) or ManifestCounts(),
                    "results": _optional_part(ResultCounts, values.get("results")) or ResultCounts(),
                    "speed": _optional_part(SpeedFacts, values.get("speed")),
                    "found": _optional_part(FoundLabels, values.get("found")),
                    "head_models": {
                        name: model
                        for name, facts in values.get("head_models", {}).items()
                        if (model := _model_facts(facts)) is not None
                    },
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DestinationError(
                f"{where}: not a run's summary ({type(error).__name__}: {error}), expected the JSON that "
                "`tonearm tag` writes to runs/; delete the file, or run `tonearm tag` again"
            ) from None


def _known_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _optional_part(kind: type[T], values: Mapping[str, Any] | None) -> T | None:
    return None if values is None else kind(**_known_fields(kind, values))


def _model_facts(values: Mapping[str, Any] | None) -> ModelFacts | None:
    if values is None:
        return None
    return _optional_part(ModelFacts, {**values, "fallback": _optional_part(FallbackFacts, values.get("fallback"))})


def _machine_facts(values: Mapping[str, Any] | None) -> MachineFacts:
    # JSON gives a list; the class is frozen and compared, so it needs a tuple.
    machine = _optional_part(MachineFacts, values) or MachineFacts()
    return dataclasses.replace(machine, gpus=tuple(machine.gpus))


def _parse_utc(text: str) -> datetime.datetime:
    # A time without a zone is taken for UTC: Python refuses to subtract it from one that has a zone.
    moment = datetime.datetime.fromisoformat(text)
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def write_run(destination: str, run: RunSummary) -> str:
    """Write ``runs/<run>.json`` and return its URL."""
    url = posixpath.join(destination.rstrip("/") or "/", "runs", f"{run.run_id}.json")
    filesystems.write_text(url, run.to_json())
    return url


def read_run(destination: str, run_id: str | None = None) -> RunSummary:
    """Return the summary of the run ``run_id``, or of the run that started last.

    Raises:
        DestinationError: there is no such run, or its file cannot be read.
    """
    folder = posixpath.join(destination.rstrip("/") or "/", "runs")
    # A run's id begins with its start time, so the last name is the latest run.
    names = [name for name in filesystems.list_files(folder) if name.endswith(".json")]
    file_name = f"{run_id}.json" if run_id is not None else next(reversed(names), None)
    if file_name is None or file_name not in names:
        run_ids = ", ".join(name.removesuffix(".json") for name in names[-5:]) or "none"
        raise DestinationError(
            f"{destination}: no finished run{f' {run_id}' if run_id else ''} in runs/ (there: {run_ids}); "
            f"give a folder that `tonearm tag SOURCE --out {destination}` has written"
        )
    url = posixpath.join(folder, file_name)
    with filesystems.reading(url):
        text = filesystems.read_bytes(url)
    return RunSummary.from_json(text, where=url)
