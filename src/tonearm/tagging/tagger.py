"""From a track's bytes to its ``TrackResult``. Batch, serving and evaluation call all of it, or one of its halves.

The first half (``DecodeSandbox.decode`` with ``decode_request``) needs no torch and runs on CPU workers. The second
half (``Tagger.score``) holds the models and scores the windows of many tracks in common batches.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.decode import AudioInfo, DecodedTrack
from tonearm.audio.windows import WindowPlan
from tonearm.errors import ScoreError, TrackError
from tonearm.heads import GENRE, TAGS, FallbackSettings
from tonearm.models import pooling
from tonearm.models.window_scores import WindowScores, checked, score_apart
from tonearm.runs.counts import WindowCounts
from tonearm.settings import MAX_TRACK_S, ModelSettings
from tonearm.tagging import cascade
from tonearm.tagging.fallbacks import with_fallbacks
from tonearm.tagging.plan import (
    FallbackPlan,
    HeadPlan,
    TagPlan,
    decode_request,
    every_model,
    fallback_name,
    load_head,
    plan_heads,
)

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.models.classifier import Classifier

# How many batches of windows a classifier gets at once. It bounds the float32 copies, however large a block is.
BATCHES_AT_ONCE = 8

# 60 dB below full scale; samples are in [-1, 1].
SILENT_PEAK = 1e-3


@dataclasses.dataclass(frozen=True)
class TrackResult:
    """The result of one track.

    Attributes:
        coverage: the share of the track's duration that every head has scored.
        heads: the results by head: a ``SingleResult`` of ``single`` heads, a ``MultiResult`` of ``multi`` heads.
        timeline: of ``genre`` and ``tags`` together.
        silent: whether nothing that was decoded is louder than ``SILENT_PEAK``.
        windows: the timelines of the other heads that have labels.
    """

    info: AudioInfo
    coverage: float
    heads: Mapping[str, pooling.EmbeddingResult]
    timeline: tuple[pooling.TimelineRow, ...]
    num_windows: int
    silent: bool = False
    windows: Mapping[str, tuple[pooling.HeadWindow, ...]] = dataclasses.field(default_factory=dict)

    @property
    def genre(self) -> pooling.SingleResult | None:
        """The result of the head ``genre``; None if it is off."""
        result = self.heads.get(GENRE.name)
        return result if isinstance(result, pooling.SingleResult) else None

    @property
    def tags(self) -> pooling.MultiResult | None:
        """The result of the head ``tags``; None if it is off."""
        result = self.heads.get(TAGS.name)
        return result if isinstance(result, pooling.MultiResult) else None


class Heads:
    """The configured heads, without weights: which windows each scores, and how window scores become a result."""

    def __init__(self, plans: Mapping[str, HeadPlan], models: ModelSettings) -> None:
        self.plans = plans
        self.models = models

    def limited(self, max_windows: int | None, heads: Sequence[str] | None = None) -> Heads:
        """Return ``heads`` alone (by default all), with at most ``max_windows`` windows per track."""
        plans = {
            head: dataclasses.replace(self.plans[head], windows=self.plans[head].windows.limited(max_windows))
            for head in heads or self.plans
        }
        return Heads(plans, self.models)

    def windows(self, head: str, track: DecodedTrack) -> Iterator[NDArray[np.float32]]:
        """Yield the windows that ``head`` scores of a track, float32 [samples] each."""
        return _cut_windows(self.plans[head].windows, track)

    def pool(self, track: DecodedTrack, scores: dict[str, WindowScores]) -> TrackResult:
        """Return a track's result from each head's scores of its windows."""
        starts_s, covered = {}, 1.0
        for name in scores:
            plan = self.plans[name].windows
            num_samples = track.stream(plan.sample_rate).num_samples
            starts = plan.starts(num_samples)
            starts_s[name] = starts / plan.sample_rate
            covered = min(covered, _covered_samples(starts, plan.window_samples, num_samples) / num_samples)
        results = {name: self._pool_head(name, scores[name], starts_s[name]) for name in scores}
        num_windows = sum(len(values) for values in starts_s.values())
        silent = all(stream.peak < SILENT_PEAK for stream in track.streams)
        result = TrackResult(track.info, covered * track.decoded_share, results, (), num_windows, silent)
        return dataclasses.replace(result, timeline=self._timeline(result), windows=self._own_timelines(result))

    def _pool_head(self, name: str, scores: WindowScores, start_s: NDArray[np.float64]) -> pooling.EmbeddingResult:
        plan = self.plans[name]
        return pooling.pool(
            plan.head.activation,
            scores,
            start_s,
            plan.checkpoint.labels,
            top_k=self.models.top_tags,
            calibration=plan.checkpoint.sidecar.calibration if self.models.calibrated else None,
        )

    def _timeline(self, result: TrackResult) -> tuple[pooling.TimelineRow, ...]:
        windows_s = {name: plan.window_s for name, plan in self.plans.items()}
        return pooling.timeline(
            result.genre,
            result.tags,
            duration_s=result.info.duration_s,
            genre_window_s=windows_s.get(GENRE.name),
            tag_window_s=windows_s.get(TAGS.name),
            top_k=self.models.top_window_tags,
        )

    def _own_timelines(self, result: TrackResult) -> dict[str, tuple[pooling.HeadWindow, ...]]:
        duration_s, top_k = result.info.duration_s, self.models.top_window_tags
        return {
            name: pooling.own_timeline(
                head_result, duration_s=duration_s, window_s=self.plans[name].window_s, top_k=top_k
            )
            for name, head_result in result.heads.items()
            if self.plans[name].head.windows is not None
        }


class Tagger(Heads):
    """Heads with their weights.

    Args:
        classifiers: by head, and by ``fallback_name`` those of fallbacks.
    """

    def __init__(
        self, plans: Mapping[str, HeadPlan], classifiers: dict[str, Classifier], models: ModelSettings
    ) -> None:
        super().__init__(plans, models)
        self.classifiers = classifiers

    @classmethod
    def load(
        cls,
        models: ModelSettings,
        *,
        max_windows: int | None = None,
        max_scored_s: float = MAX_TRACK_S,
        fallback: Mapping[str, FallbackSettings] | None = None,
        num_threads: int | None = None,
    ) -> Tagger:
        """Load the heads' weights.

        Raises:
            CheckpointError: a checkpoint cannot be used.
        """
        plans = plan_heads(models, max_windows=max_windows, max_scored_s=max_scored_s)
        plans = with_fallbacks(plans, fallback or {}, models)
        return cls.of(TagPlan(plans, models, max_scored_s), num_threads=num_threads)

    @classmethod
    def of(cls, plan: TagPlan, *, num_threads: int | None = None) -> Tagger:
        """Load the weights of a plan's heads.

        Raises:
            CheckpointError: a checkpoint cannot be used, or differs from the planned one.
        """
        classifiers = {
            head: load_head(head, head_plan, plan.models, num_threads=num_threads, is_bulk=True)
            for head, head_plan in every_model(plan.heads).items()
        }
        return cls(plan.heads, classifiers, plan.models)

    def describe(self) -> dict[str, dict[str, str]]:
        """Return the runtime, precision and device of each model, and a note if they are not as requested."""
        described = {name: classifier.describe() for name, classifier in self.classifiers.items()}
        plans = every_model(self.plans)
        # The plan's note and the worker's may be the same line, about a precision that it cannot have: say it once.
        notes = {name: dict.fromkeys([plans[name].note, runs_on["note"]]) for name, runs_on in described.items()}
        return {name: runs_on | {"note": "; ".join(filter(None, notes[name]))} for name, runs_on in described.items()}

    def score(self, tracks: Sequence[DecodedTrack | TrackError]) -> list[TrackResult | TrackError]:
        """Return the result of each track, in order; for one that failed before, or fails here, its error."""
        return self.pooled(tracks, self.score_windows(tracks))

    def pooled(
        self,
        tracks: Sequence[DecodedTrack | TrackError],
        scored: Sequence[dict[str, WindowScores] | TrackError],
    ) -> list[TrackResult | TrackError]:
        """Return the results of the window scores that ``score_windows`` gave, as ``score`` does."""
        return [
            scores if isinstance(scores, TrackError) else self.pool(track, scores)  # type: ignore[arg-type]
            for track, scores in zip(tracks, scored, strict=True)
        ]

    @property
    def features_s(self) -> float:
        """Seconds spent so far on features, if they are computed apart from the forward pass."""
        return sum(classifier.features_s for classifier in self.classifiers.values())

    def score_windows(self, tracks: Sequence[DecodedTrack | TrackError]) -> list[dict[str, WindowScores] | TrackError]:
        """Return each head's scores of each track's windows, in order of the tracks; nothing is pooled yet."""
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

    def routed(self, scored: Sequence[dict[str, WindowScores] | TrackError]) -> dict[str, WindowCounts]:
        """Return for each head with a fallback how many windows it scored and sent on.

        Args:
            scored: as ``score_windows`` gave it; tracks that failed count no windows.
        """
        good = [scores for scores in scored if not isinstance(scores, TrackError)]
        return {
            head: WindowCounts(
                sum(len(scores[head].logits) for scores in good), sum(scores[head].num_sent for scores in good)
            )
            for head, plan in self.plans.items()
            if plan.fallback is not None
        }

    def _score_head(self, head: str, tracks: Sequence[DecodedTrack]) -> Sequence[WindowScores | ScoreError]:
        scored = score_apart(head, tracks, lambda some: self._score_together(head, some))
        fallback = self.plans[head].fallback
        return scored if fallback is None else self._with_fallback(head, fallback, tracks, scored)

    def _score_together(self, head: str, tracks: Sequence[DecodedTrack]) -> list[WindowScores | ScoreError]:
        per_track = [self.windows(head, track) for track in tracks]
        plan = self.plans[head].windows
        counts = [len(plan.starts_in(track.lengths)) for track in tracks]
        return [checked(head, scores) for scores in self._score_windows(head, per_track, counts)]

    def _with_fallback(
        self,
        head: str,
        fallback: FallbackPlan,
        tracks: Sequence[DecodedTrack],
        scored: Sequence[WindowScores | ScoreError],
    ) -> list[WindowScores | ScoreError]:
        """Return the scores with those of the fallback for the windows that the head's model is unsure of.

        The windows of all tracks fill its batches together.
        """
        outcomes, name = list(scored), fallback_name(head)
        # By the track's index, as are the mappings below: only tracks that did not fail.
        head_scores = {index: scores for index, scores in enumerate(scored) if isinstance(scores, WindowScores)}

        def find_unsure(indices: Sequence[int]) -> list[NDArray[np.int64]]:
            return [self._unsure_windows(head, fallback, tracks[index], head_scores[index]) for index in indices]

        sent: dict[int, NDArray[np.int64]] = {}
        for index, unsure in zip(head_scores, score_apart(head, list(head_scores), find_unsure), strict=True):
            if isinstance(unsure, ScoreError):
                outcomes[index] = unsure
            elif len(unsure):
                sent[index] = unsure

        def score_with_fallback(indices: Sequence[int]) -> list[WindowScores | ScoreError]:
            following = fallback.following(self.plans[head].windows)
            per_track = [_cut_windows(following, tracks[index], sent[index]) for index in indices]
            fallback_scores = self._score_windows(name, per_track, [len(sent[index]) for index in indices])
            return [checked(name, scores) for scores in fallback_scores]

        for index, outcome in zip(sent, score_apart(name, list(sent), score_with_fallback), strict=True):
            if isinstance(outcome, WindowScores):
                outcome = cascade.merged(head_scores[index], sent[index], outcome.logits[:, list(fallback.order)])
            outcomes[index] = outcome
        return outcomes

    def _unsure_windows(
        self, head: str, fallback: FallbackPlan, track: DecodedTrack, scores: WindowScores
    ) -> NDArray[np.int64]:
        """Return the indices of the windows that the head's model is unsure of.

        Of a track that is too short for the fallback there are none.
        """
        plan, classifier, checkpoint = self.plans[head], self.classifiers[head], fallback.model.checkpoint
        if track.lengths[checkpoint.sample_rate] < checkpoint.min_samples:
            return np.empty(0, np.int64)

        def rescore(index: int) -> NDArray[np.float32]:
            return classifier.score(list(_cut_windows(plan.windows, track, [index]))).logits

        return cascade.unsure(
            scores.logits,
            fallback.threshold,
            rescore,
            is_multi=plan.checkpoint.multi_label,
            precision=classifier.describe()["precision"],
        )

    def _score_windows(
        self, name: str, per_track: Sequence[Iterator[NDArray[np.float32]]], counts: Sequence[int]
    ) -> list[WindowScores]:
        """Return a model's scores of the windows of each track, of which there are ``counts``."""
        classifier, parts = self.classifiers[name], []
        # One stream over all tracks: short tracks fill batches together, and windows are made only as they are scored.
        windows = itertools.chain.from_iterable(per_track)
        while chunk := list(itertools.islice(windows, classifier.batch_size * BATCHES_AT_ONCE)):
            parts.append(classifier.score(chunk))
        if not parts:
            return []
        logits = np.concatenate([part.logits for part in parts])
        embedding = np.concatenate([part.embedding for part in parts])
        edges = np.cumsum([0, *counts])
        return [WindowScores(logits[start:stop], embedding[start:stop]) for start, stop in itertools.pairwise(edges)]


def tag_bytes(
    data: bytes, sandbox: DecodeSandbox, tagger: Tagger, name: str = "", *, max_scored_s: float = MAX_TRACK_S
) -> TrackResult:
    """Decode and score one track.

    Args:
        name: the file's, for the few formats that can only be recognized by it.

    Raises:
        TrackError: the track cannot be decoded or scored.
    """
    decoded = sandbox.decode(data, decode_request(tagger.plans, max_scored_s), name)
    (outcome,) = tagger.score([decoded])
    if isinstance(outcome, TrackError):
        raise outcome
    return outcome


def _cut_windows(
    plan: WindowPlan, track: DecodedTrack, places: Iterable[int] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield a track's windows, float32 [samples] each; with ``places`` only those of these indices."""
    stream, starts = track.stream(plan.sample_rate), plan.starts_in(track.lengths)
    for start in starts if places is None else (starts[place] for place in places):
        yield stream.window(int(start), plan.window_samples)


def _covered_samples(starts: NDArray[np.int64], window_samples: int, num_samples: int) -> int:
    # Windows may overlap or leave gaps: each counts until the next begins, and never for more than its own length.
    gaps = np.diff(np.append(starts, num_samples))
    return int(np.minimum(gaps, window_samples).sum())
