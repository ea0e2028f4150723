"""The one composition: a track's bytes become its ``TrackResult``. Batch, serving and evaluation call it or its halves.

The first half (``DecodeSandbox.decode`` with ``decode_request``) needs no torch and runs on CPU workers; the second
(``Tagger.score``) holds the models and batches the windows of many tracks together.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tonearm.audio.decode import AudioInfo, DecodedTrack, DecodeRequest
from tonearm.audio.windows import WindowPlan
from tonearm.errors import ScoreError, TrackError, UsageError
from tonearm.library import schema
from tonearm.models import pooling
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, plan_windows

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.library.sources import TrackRef
    from tonearm.models.calibration import Calibration
    from tonearm.models.classifier import Classifier, WindowScores
    from tonearm.settings import ModelSettings

# Windows handed to a classifier at once, in batches: bounds the float32 copies whatever a block holds.
BATCHES_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class TrackResult:
    """What tonearm says about one track.

    ``coverage`` is the share of the track's duration that every head has scored.
    """

    info: AudioInfo
    coverage: float
    genre: pooling.GenreResult | None
    tags: pooling.TagResult | None
    timeline: tuple[pooling.TimelineRow, ...]
    num_windows: int


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What every row of one run says about its making."""

    run_id: str
    version: str
    genre_model: str | None
    tag_model: str | None


@dataclasses.dataclass(frozen=True)
class HeadPlan:
    """One head before its weights are loaded: which checkpoint, and how it cuts a track."""

    checkpoint: CheckpointInfo
    windows: WindowPlan


def plan_heads(models: ModelSettings, *, max_windows: int | None, max_scored_s: float) -> dict[str, HeadPlan]:
    """Return the heads that are on, ``genre`` before ``tags``, without loading any weights.

    Raises:
        UsageError: both heads are off.
        CheckpointError: a checkpoint cannot be used.
    """
    plans = {}
    for head, (source, revision, window_s) in models.heads().items():
        if source is None:
            continue
        info = describe_checkpoint(source, revision=revision)
        windows = plan_windows(info, window_s, max_windows)
        most = max(1, int(max_scored_s * windows.sample_rate) // windows.window_samples)
        limit = most if windows.max_windows is None else min(most, windows.max_windows)
        plans[head] = HeadPlan(info, dataclasses.replace(windows, max_windows=limit))
    if not plans:
        raise UsageError("both heads are off; give at least one of --genre-model and --tag-model")
    if models.calibrated and not any(plan.checkpoint.companion.calibration for plan in plans.values()):
        names = " and ".join(plan.checkpoint.name for plan in plans.values())
        raise UsageError(
            f"got --calibrated, but {names} have no calibration; fit one with "
            "`tonearm evaluate MODEL SOURCE --calibrate`"
        )
    return plans


def model_columns(plans: Mapping[str, HeadPlan]) -> dict[str, str | None]:
    """Return the columns of ``schema.TRACKS`` that name the checkpoints."""
    names = {head: f"{plan.checkpoint.name}@{plan.checkpoint.revision[:19]}" for head, plan in plans.items()}
    return {"genre_model": names.get("genre"), "tag_model": names.get("tags")}


def decode_request(plans: dict[str, HeadPlan], max_scored_s: float) -> DecodeRequest:
    """Return what decoding must keep for these heads."""
    return DecodeRequest(plans=tuple(plan.windows for plan in plans.values()), max_scored_s=max_scored_s)


def load_head(head: str, models: ModelSettings, *, num_threads: int | None = None, is_bulk: bool = False) -> Classifier:
    """Load the weights of one head, ``genre`` or ``tags``.

    Args:
        num_threads, is_bulk: see ``Classifier.load``.

    Raises:
        CheckpointError: its checkpoint cannot be used.
        SettingsError: a runtime, precision and device that do not go together.
    """
    from tonearm.models.classifier import Classifier

    source, revision, window_s = models.heads()[head]
    return Classifier.load(
        str(source),
        revision=revision,
        window_s=window_s,
        runtime=models.runtime,
        precision=models.precision,
        batch_size=models.batch_size,
        allow_pickle=models.allow_pickle,
        num_threads=num_threads,
        is_bulk=is_bulk,
    )


class Heads:
    """Both heads without their weights: how they cut a track, and what their scores of its windows make of it."""

    def __init__(self, plans: dict[str, HeadPlan], models: ModelSettings) -> None:
        self.plans = plans
        self.models = models

    def limited(self, max_windows: int | None, heads: Sequence[str] | None = None) -> Heads:
        """Return only ``heads`` (by default all), with at most ``max_windows`` windows a track where that is fewer."""
        plans = {}
        for head in heads or self.plans:
            plan = self.plans[head]
            counts = [count for count in (max_windows, plan.windows.max_windows) if count is not None]
            windows = dataclasses.replace(plan.windows, max_windows=min(counts, default=None))
            plans[head] = dataclasses.replace(plan, windows=windows)
        return Heads(plans, self.models)

    def windows(self, head: str, track: DecodedTrack) -> Iterator[NDArray[np.float32]]:
        """Yield the windows that ``head`` scores of a track, float32 [samples] each."""
        plan = self.plans[head].windows
        stream = track.stream(plan.sample_rate)
        for start in plan.starts(stream.num_samples):
            yield stream.window(int(start), plan.window_samples)

    def pool(self, track: DecodedTrack, scores: dict[str, WindowScores]) -> TrackResult:
        """Return a track's result from what each head says of its windows."""
        starts_s, covered = {}, 1.0
        for head in scores:
            plan = self.plans[head].windows
            num_samples = track.stream(plan.sample_rate).num_samples
            starts = plan.starts(num_samples)
            starts_s[head] = starts / plan.sample_rate
            covered = min(covered, _covered_samples(starts, plan.window_samples, num_samples) / num_samples)
        genre = tags = None
        if "genre" in scores:
            checkpoint, found = self.plans["genre"].checkpoint, self._calibration("genre")
            temperature = found.temperature if found is not None else 1.0
            genre = pooling.pool_genre(scores["genre"], starts_s["genre"], checkpoint.labels, temperature=temperature)
        if "tags" in scores:
            tags = pooling.pool_tags(
                scores["tags"],
                starts_s["tags"],
                self.plans["tags"].checkpoint.labels,
                top_k=self.models.top_tags,
                calibration=self._calibration("tags"),
            )
        windows_s = {head: plan.windows.window_samples / plan.windows.sample_rate for head, plan in self.plans.items()}
        timeline = pooling.timeline(
            genre,
            tags,
            duration_s=track.info.duration_s,
            genre_window_s=windows_s.get("genre"),
            tag_window_s=windows_s.get("tags"),
            top_k=self.models.top_window_tags,
        )
        num_windows = sum(len(values) for values in starts_s.values())
        return TrackResult(track.info, covered * track.decoded_share, genre, tags, timeline, num_windows)

    def _calibration(self, head: str) -> Calibration | None:
        return self.plans[head].checkpoint.companion.calibration if self.models.calibrated else None


class Tagger(Heads):
    """Both heads, loaded, with the windows they want."""

    def __init__(self, plans: dict[str, HeadPlan], classifiers: dict[str, Classifier], models: ModelSettings) -> None:
        super().__init__(plans, models)
        self.classifiers = classifiers

    @classmethod
    def load(
        cls,
        models: ModelSettings,
        *,
        max_windows: int | None = None,
        max_scored_s: float = 4 * 3600.0,
        num_threads: int | None = None,
    ) -> Tagger:
        """Load the heads' weights.

        Raises:
            CheckpointError: a checkpoint cannot be used.
        """
        plans = plan_heads(models, max_windows=max_windows, max_scored_s=max_scored_s)
        return cls(
            plans, {head: load_head(head, models, num_threads=num_threads, is_bulk=True) for head in plans}, models
        )

    def describe(self) -> dict[str, dict[str, str]]:
        """Return what each head runs on: runtime, precision, device."""
        return {head: classifier.describe() for head, classifier in self.classifiers.items()}

    def score(self, tracks: Sequence[DecodedTrack | TrackError]) -> list[TrackResult | TrackError]:
        """Return each track's result in order; a track that failed before, or fails here, is its error."""
        return self.pooled(tracks, self.score_windows(tracks))

    def pooled(
        self,
        tracks: Sequence[DecodedTrack | TrackError],
        scored: Sequence[dict[str, WindowScores] | TrackError],
    ) -> list[TrackResult | TrackError]:
        """Return what ``score_windows`` gave, as ``score`` does."""
        return [
            scores if isinstance(scores, TrackError) else self.pool(track, scores)  # type: ignore[arg-type]
            for track, scores in zip(tracks, scored, strict=True)
        ]

    @property
    def features_s(self) -> float:
        """Seconds spent so far on features, where they are made apart from the forward pass."""
        return sum(classifier.features_s for classifier in self.classifiers.values())

    def score_windows(self, tracks: Sequence[DecodedTrack | TrackError]) -> list[dict[str, WindowScores] | TrackError]:
        """Return what each head says of each track's windows, before they are pooled, in order."""
        outcomes: list[dict[str, WindowScores] | TrackError] = []
        decoded = [track for track in tracks if isinstance(track, DecodedTrack)]
        scored = {head: iter(self._score_head(head, decoded)) for head in self.plans}
        for track in tracks:
            if isinstance(track, TrackError):
                outcomes.append(track)
                continue
            scores = {head: next(results) for head, results in scored.items()}
            failed = [value for value in scores.values() if isinstance(value, ScoreError)]
            outcomes.append(failed[0] if failed else scores)  # type: ignore[arg-type]
        return outcomes

    def _score_head(self, head: str, tracks: Sequence[DecodedTrack]) -> list[WindowScores | ScoreError]:
        try:
            return self._score_together(head, tracks)
        except (RuntimeError, ValueError, MemoryError) as error:
            # One track's windows may be what broke the batch: alone, only that track fails.
            if len(tracks) <= 1:
                return [ScoreError(f"{head}: {first_line(error)}", code="score_failed") for _ in tracks]
            return [result for track in tracks for result in self._score_head(head, [track])]

    def _score_together(self, head: str, tracks: Sequence[DecodedTrack]) -> list[WindowScores | ScoreError]:
        from tonearm.models.classifier import WindowScores

        plan, classifier = self.plans[head].windows, self.classifiers[head]
        counts = [len(plan.starts(track.stream(plan.sample_rate).num_samples)) for track in tracks]
        windows = itertools.chain.from_iterable(self.windows(head, track) for track in tracks)
        parts = []
        while chunk := [
            window for _, window in zip(range(classifier.batch_size * BATCHES_AT_ONCE), windows, strict=False)
        ]:
            parts.append(classifier.score(chunk))
        if not parts:
            return []
        logits = np.concatenate([part.logits for part in parts])
        embedding = np.concatenate([part.embedding for part in parts])
        edges = np.cumsum([0, *counts])
        results: list[WindowScores | ScoreError] = []
        for start, stop in itertools.pairwise(edges):
            if np.isfinite(logits[start:stop]).all():
                results.append(WindowScores(logits[start:stop], embedding[start:stop]))
            else:
                results.append(ScoreError(f"{head}: the model gave a score that is not a number", code="score_failed"))
        return results


def tag_bytes(data: bytes, sandbox: DecodeSandbox, tagger: Tagger, *, max_scored_s: float = 4 * 3600.0) -> TrackResult:
    """Decode and score one track.

    Raises:
        TrackError: the track cannot be decoded or scored.
    """
    decoded = sandbox.decode(data, decode_request(tagger.plans, max_scored_s))
    (outcome,) = tagger.score([decoded])
    if isinstance(outcome, TrackError):
        raise outcome
    return outcome


def to_row(ref: TrackRef, outcome: TrackResult | TrackError, facts: RunFacts) -> dict[str, Any]:
    """Return one row of ``schema.TRACKS`` as a mapping."""
    row: dict[str, Any] = {name: getattr(ref, name) for name in schema.MANIFEST.names}
    row |= {
        "genre_model": facts.genre_model,
        "tag_model": facts.tag_model,
        "tonearm_version": facts.version,
        "run_id": facts.run_id,
    }
    if isinstance(outcome, TrackError):
        return row | {"status": "error", "error_code": outcome.code, "error_message": outcome.message}
    return row | {"status": "ok"} | result_columns(outcome)


def result_columns(outcome: TrackResult) -> dict[str, Any]:
    """Return the columns of ``schema.TRACKS`` that a track's result fills."""
    row: dict[str, Any] = dataclasses.asdict(outcome.info) | {"coverage": outcome.coverage}
    if (genre := outcome.genre) is not None:
        row |= {
            "genre": genre.label,
            "genre_score": genre.score,
            "genre_scores": [{"label": label, "score": score} for label, score in genre.scores],
            "genre_embedding": genre.embedding,
        }
    if (tags := outcome.tags) is not None:
        # Not dataclasses.asdict, which copies deeply: it took half of the time that a row of a short track takes.
        entries = [
            {"label": tag.label, "score": tag.score, "max_score": tag.max_score, "max_start_s": tag.max_start_s}
            for tag in tags.tags
        ]
        row |= {"tags": entries, "tag_embedding": tags.embedding}
    row["windows"] = [window_row(entry) for entry in outcome.timeline]
    return row


def window_row(entry: pooling.TimelineRow) -> dict[str, Any]:
    """Return one entry of the timeline as a row of ``schema.WINDOW``."""
    tags = [{"label": label, "score": score} for label, score in entry.tags]
    return {
        "start_s": entry.start_s,
        "end_s": entry.end_s,
        "genre": entry.genre,
        "genre_score": entry.genre_score,
        "tags": tags,
    }


def to_table(refs: Sequence[TrackRef], outcomes: Sequence[TrackResult | TrackError], facts: RunFacts) -> pa.Table:
    """Return the tracks as a table of ``schema.TRACKS``, in order."""
    rows = [to_row(ref, outcome, facts) for ref, outcome in zip(refs, outcomes, strict=True)]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema.TRACKS]
    return pa.Table.from_arrays(arrays, schema=schema.TRACKS)


def _covered_samples(starts: NDArray[np.int64], window_samples: int, num_samples: int) -> int:
    gaps = np.diff(np.append(starts, num_samples))
    return int(np.minimum(gaps, window_samples).sum())


def first_line(error: BaseException) -> str:
    """Return what an error says in a line; its kind where it says nothing, as a ``MemoryError`` often does."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
