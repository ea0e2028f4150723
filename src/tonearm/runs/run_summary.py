"""What one run did, as ``runs/<run>.json`` holds it and the report shows it."""

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
class ModelFacts:
    """The checkpoint of one head and how it ran; ``note`` says why not as it was asked for."""

    name: str
    revision: str
    runtime: str = ""
    precision: str = ""
    window_s: float | None = None
    device: str = ""
    num_labels: int | None = None
    note: str = ""


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
    """What the sources listed. ``skipped`` counts by extension what is not audio."""

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
    """How fast a run was, over the tracks that it did itself.

    ``span_s`` is the time from the first track's bytes to the last track's row, without setting up and auditing;
    ``peak_bytes`` is the highest resident memory by kind of process, ``busy_s`` the summed seconds by stage,
    ``busy_share`` that of the time of all that could do the stage at once, ``bottleneck`` what the rest waited for and
    why that is said, and ``spilled_bytes`` what Ray's object store wrote to disk for want of memory.
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
    """What the library holds after a run, as far as its end says it: labels by their tracks, those first to be said.

    Attributes:
        genres, num_genres: the largest, and how many there are in all.
        tags, num_tags: those of at least 0.5 that say most, and how many there are in all.
        faint_tags: where there are none of these, the mean scores of those that say most.
        heads: by each other head that has labels, its most frequent ones; of several per track those of at least 0.5.
    """

    genres: dict[str, int] = dataclasses.field(default_factory=dict)
    num_genres: int = 0
    tags: dict[str, int] = dataclasses.field(default_factory=dict)
    num_tags: int = 0
    faint_tags: dict[str, float] = dataclasses.field(default_factory=dict)
    heads: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """One invocation. ``started`` and ``finished`` are UTC; a head that was off is None.

    ``head_models`` are those of the heads besides ``genre`` and ``tags``; ``models()`` has all that were on.

    ``notice`` is a line that every reader must see, such as that the demo models know only synthesized music.
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
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, default=_plain)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "run summary") -> RunSummary:
        """Return the summary that ``text`` holds; parts that are missing get their defaults, unknown ones are ignored.

        Args:
            where: what the message calls the text, e.g. its URL.

        Raises:
            DestinationError: not JSON, or not a run's.
        """
        try:
            values = json.loads(text)
            return cls(
                **_known(cls, values)
                | {
                    "started": _utc(values["started"]),
                    "finished": _utc(values["finished"]),
                    "genre_model": _part(ModelFacts, values.get("genre_model")),
                    "tag_model": _part(ModelFacts, values.get("tag_model")),
                    "machine": _machine(values.get("machine")),
                    "manifest": _part(ManifestCounts, values.get("manifest")) or ManifestCounts(),
                    "results": _part(ResultCounts, values.get("results")) or ResultCounts(),
                    "speed": _part(SpeedFacts, values.get("speed")),
                    "found": _part(FoundLabels, values.get("found")),
                    "head_models": {
                        name: ModelFacts(**_known(ModelFacts, model))
                        for name, model in values.get("head_models", {}).items()
                    },
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DestinationError(
                f"{where}: not a run's summary ({type(error).__name__}: {error}), expected the JSON that "
                "`tonearm tag` writes to runs/; delete the file, or run `tonearm tag` again"
            ) from None


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _part(kind: type[T], values: Mapping[str, Any] | None) -> T | None:
    return None if values is None else kind(**_known(kind, values))


def _machine(values: Mapping[str, Any] | None) -> MachineFacts:
    machine = _part(MachineFacts, values) or MachineFacts()
    return dataclasses.replace(machine, gpus=tuple(machine.gpus))


def _utc(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def write_run(destination: str, run: RunSummary) -> str:
    """Write ``runs/<run>.json`` and return its URL."""
    url = posixpath.join(destination.rstrip("/") or "/", "runs", f"{run.run_id}.json")
    filesystems.write_text(url, run.to_json())
    return url


def read_run(destination: str, run_id: str | None = None) -> RunSummary:
    """Return the summary of ``run_id``, or of the run that started last.

    Raises:
        DestinationError: there is no such run, or its file cannot be read.
    """
    folder = posixpath.join(destination.rstrip("/") or "/", "runs")
    # A run's id opens with the time at which it started, so the last name is the last run.
    names = [name for name in filesystems.list_files(folder) if name.endswith(".json")]
    wanted = f"{run_id}.json" if run_id is not None else next(reversed(names), None)
    if wanted is None or wanted not in names:
        known = ", ".join(name.removesuffix(".json") for name in names[-5:]) or "none"
        raise DestinationError(
            f"{destination}: no finished run{f' {run_id}' if run_id else ''} in runs/ (there: {known}); "
            f"give a folder that `tonearm tag SOURCE --out {destination}` has written"
        )
    url = posixpath.join(folder, wanted)
    with filesystems.reading(url):
        text = filesystems.read_bytes(url)
    return RunSummary.from_json(text, where=url)
