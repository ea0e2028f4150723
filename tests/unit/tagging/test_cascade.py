"""Windows of which a head's model is unsure go to its fallback, and nothing else changes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tonearm.audio.decode import DecodedTrack, decode
from tonearm.audio.windows import WindowPlan
from tonearm.errors import ScoreError
from tonearm.heads import head_of
from tonearm.models import pooling
from tonearm.models.checkpoint import CheckpointInfo
from tonearm.models.window_scores import WindowScores
from tonearm.runs.counts import WindowCounts
from tonearm.settings import ModelSettings
from tonearm.tagging import FallbackPlan, HeadPlan, Tagger, cascade, decode_request, fallback_name, model_names

LABELS = ("calm", "bright", "dark")
STUDENT_HZ, TEACHER_HZ, WINDOW_S = 16000, 24000, 0.25
# What the teacher calls the second label it has first, and so on.
TEACHER_LABELS = ("dark", "calm", "bright")
ORDER = (1, 2, 0)


def info(name: str, sample_rate: int, labels: tuple[str, ...], *, is_multi: bool, min_samples: int) -> CheckpointInfo:
    return CheckpointInfo(name, f"sha256:{name}", "made up", labels, sample_rate, None, min_samples, 2, None, is_multi)


class Scorer:
    """Scores a window by its loudness and its zero crossings, as any model does by something.

    Attributes:
        batches: how many windows each call got.
        noise: how far the place in a batch moves logits.
        fails_from: windows louder than this break the batch.
    """

    def __init__(self, num_labels: int, seed: int, batch_size: int = 4, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=(2, num_labels)) * 4
        self.batch_size, self.noise = batch_size, noise
        self.batches: list[int] = []
        self.fails_from = np.inf

    def score(self, windows: Sequence[NDArray[np.float32]]) -> WindowScores:
        self.batches.append(len(windows))
        seen = np.array([[np.abs(each).mean(), np.mean(np.diff(np.sign(each)) != 0)] for each in windows])
        if (seen[:, 0] > self.fails_from).any():
            raise RuntimeError("out of memory")
        moved = self.noise * (np.arange(len(windows)) % 3)[:, None] * np.array([1, -1, 0])
        return WindowScores((seen @ self.weights + moved).astype(np.float32), seen.astype(np.float32))

    def describe(self) -> dict[str, str]:
        return {"runtime": "torch", "precision": "fp32", "device": "cpu", "note": ""}


def plan_of(threshold: float, *, is_multi: bool = False, min_samples: int = 400) -> HeadPlan:
    head = head_of("mood", "multi" if is_multi else "single")
    student = info("small", STUDENT_HZ, LABELS, is_multi=is_multi, min_samples=400)
    teacher = info("large", TEACHER_HZ, TEACHER_LABELS, is_multi=is_multi, min_samples=min_samples)
    own, other = (
        WindowPlan(rate, round(WINDOW_S * rate), round(WINDOW_S * rate), None, least)
        for rate, least in ((STUDENT_HZ, 400), (TEACHER_HZ, min_samples))
    )
    return HeadPlan(head, student, own, fallback=FallbackPlan(HeadPlan(head, teacher, other), threshold, ORDER))


def tagger_of(plan: HeadPlan, *, batch_size: int = 4, noise: float = 0.0) -> Tagger:
    models: Any = {"mood": Scorer(3, 1, batch_size, noise), fallback_name("mood"): Scorer(3, 2, batch_size)}
    return Tagger({"mood": plan}, models, ModelSettings())


def tracks_of(plan: HeadPlan, lengths_s: Sequence[float] = (1.93, 0.7, 3.01, 0.11)) -> list[DecodedTrack]:
    """Return tracks of noise that grows louder and brighter, at a rate that neither model has."""
    tracks = []
    for seed, length_s in enumerate(lengths_s):
        rng, num = np.random.default_rng(seed), round(length_s * 44100)
        sound = rng.uniform(-1, 1, num) * np.linspace(0.02, 0.9, num) + 0.3 * np.sin(np.arange(num) / (9 + 40 * seed))
        file = io.BytesIO()
        soundfile.write(file, np.clip(sound, -1, 1), 44100, format="WAV", subtype="FLOAT")
        tracks.append(decode(file.getvalue(), decode_request({"mood": plan}, 60.0)))
    return tracks


def by_hand(plan: HeadPlan, track: DecodedTrack, threshold: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a track's logits and which windows are the teacher's, each window scored by itself."""
    student, teacher = Scorer(3, 1), Scorer(3, 2)
    stream, other = track.stream(STUDENT_HZ), track.stream(TEACHER_HZ)
    logits, sent = [], []
    for start in plan.windows.starts(stream.num_samples):
        own = student.score([stream.window(int(start), plan.windows.window_samples)]).logits[0]
        function = pooling.sigmoid if plan.checkpoint.multi_label else pooling.softmax
        is_sent = bool(function(own[None]).max() < threshold)
        if is_sent:
            length = round(WINDOW_S * TEACHER_HZ)
            begin = min(round(float(start) * TEACHER_HZ / STUDENT_HZ), max(0, other.num_samples - length))
            said = dict(zip(TEACHER_LABELS, teacher.score([other.window(begin, length)]).logits[0], strict=True))
            own = np.array([said[label] for label in LABELS])
        logits.append(own)
        sent.append(is_sent)
    return np.array(logits), np.array(sent)


@pytest.mark.parametrize("is_multi", [False, True])
def test_unsure_windows_say_what_the_fallback_says_of_the_same_stretch(is_multi: bool) -> None:
    plan = plan_of(0.8 if is_multi else 0.6, is_multi=is_multi)
    tracks = tracks_of(plan)
    assert plan.fallback is not None
    tagger, num_sent = tagger_of(plan), 0
    scored = tagger.score_windows(tracks)
    for track, scores in zip(tracks, scored, strict=True):
        assert not isinstance(scores, Exception)
        logits, sent = by_hand(plan, track, plan.fallback.threshold)
        np.testing.assert_allclose(scores["mood"].logits, logits, atol=1e-6)
        assert scores["mood"].num_sent == sent.sum()
        num_sent += int(sent.sum())
    total = sum(len(scores["mood"].logits) for scores in scored if not isinstance(scores, Exception))
    assert 0 < num_sent < total, "some windows, or nothing is shown"
    assert tagger.routed(scored) == {"mood": WindowCounts(total, num_sent)}


def test_the_embedding_is_always_that_of_the_heads_own_model() -> None:
    plan = plan_of(0.6)
    tracks = tracks_of(plan)
    alone = tagger_of(dataclasses.replace(plan, fallback=None)).score(tracks)
    for own, both in zip(alone, tagger_of(plan).score(tracks), strict=True):
        assert not isinstance(own, Exception) and not isinstance(both, Exception)
        np.testing.assert_array_equal(own.heads["mood"].embedding, both.heads["mood"].embedding)
    assert any(
        own.heads["mood"].scores != both.heads["mood"].scores  # type: ignore[union-attr,attr-defined]
        for own, both in zip(alone, tagger_of(plan).score(tracks), strict=True)
    )


def test_rows_are_the_same_whatever_the_batches_are() -> None:
    """Also of windows so near to the threshold that their place in a batch would decide."""
    plan = plan_of(0.6)
    tracks = tracks_of(plan)
    middle = np.sort(np.concatenate([cascade.confidence(own_logits(plan, each), is_multi=False) for each in tracks]))
    # The confidence of a window itself, which is what a distillation may choose.
    plan = plan_of(float(middle[len(middle) // 2]))
    sent = set()
    for batch_size, together in ((1, 1), (3, 2), (64, 4)):
        tagger = tagger_of(plan, batch_size=batch_size, noise=2e-6)
        parts = [tracks[first : first + together] for first in range(0, len(tracks), together)]
        scored = [scores for part in parts for scores in tagger.score_windows(part)]
        sent.add(tuple(scores["mood"].num_sent for scores in scored if not isinstance(scores, Exception)))
        for track, scores in zip(tracks, scored, strict=True):
            assert not isinstance(scores, Exception)
            logits, _ = by_hand(plan, track, plan.fallback.threshold)  # type: ignore[union-attr]
            np.testing.assert_allclose(scores["mood"].logits, logits, atol=1e-5)
    assert len(sent) == 1


def own_logits(plan: HeadPlan, track: DecodedTrack) -> NDArray[np.float32]:
    (scores,) = tagger_of(dataclasses.replace(plan, fallback=None)).score_windows([track])
    assert not isinstance(scores, Exception)
    return scores["mood"].logits


def test_the_fallback_gets_the_unsure_windows_of_all_tracks_together() -> None:
    plan = plan_of(1.0)  # which no softmax of these reaches
    tagger = tagger_of(plan, batch_size=2)
    tracks = tracks_of(plan, (0.5, 0.75, 1.0))
    tagger.score_windows(tracks)
    teacher: Any = tagger.classifiers[fallback_name("mood")]
    assert teacher.batches == [9], "two, three and four windows in one call"


def test_a_track_that_breaks_the_fallback_fails_alone() -> None:
    plan = plan_of(1.0)
    tagger = tagger_of(plan)
    teacher: Any = tagger.classifiers[fallback_name("mood")]
    tracks = tracks_of(plan, (0.5, 0.75))
    loudest = [max(np.abs(each).mean() for each in heard(plan, track)) for track in tracks]
    teacher.fails_from = float(np.mean(loudest))
    (_, quiet), (_, loud) = sorted(zip(loudest, tagger.score_windows(tracks), strict=True), key=lambda pair: pair[0])
    assert isinstance(loud, ScoreError) and "mood's fallback: out of memory" in str(loud)
    assert isinstance(quiet, dict)


def heard(plan: HeadPlan, track: DecodedTrack) -> list[NDArray[np.float32]]:
    """Return a track's windows as the teacher hears them."""
    assert plan.fallback is not None
    following, stream = plan.fallback.following(plan.windows), track.stream(TEACHER_HZ)
    return [stream.window(int(start), following.window_samples) for start in following.starts_in(track.lengths)]


def test_a_track_too_short_for_the_fallback_keeps_what_its_own_model_says() -> None:
    plan = plan_of(1.0, min_samples=round(0.2 * TEACHER_HZ))
    short, whole = tracks_of(plan, (0.15, 0.5))
    scored = tagger_of(plan).score_windows([short, whole])
    assert [scores["mood"].num_sent for scores in scored if isinstance(scores, dict)] == [0, 2]


def test_with_few_windows_of_a_long_track_both_hear_the_same_stretches() -> None:
    """Then only the windows are kept of a track, at each rate."""
    plan = plan_of(1.0)
    plan = dataclasses.replace(plan, windows=plan.windows.limited(3))
    (track,) = tracks_of(plan, (6.02,))
    assert len(track.stream(TEACHER_HZ).spans) == 3
    (scores,) = tagger_of(plan).score_windows([track])
    assert isinstance(scores, dict) and scores["mood"].num_sent == 3
    np.testing.assert_allclose(scores["mood"].logits, by_hand(plan, track, 1.0)[0], atol=1e-6)


def test_a_second_look_decides_near_the_threshold_and_nowhere_else() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.600001, 0.399999], [0.599999, 0.400001], [0.9, 0.1]], np.float32))
    seen = []

    def rescore(index: int) -> NDArray[np.float32]:
        seen.append(index)
        return np.log(np.array([[0.59, 0.41]] if index == 1 else [[0.61, 0.39]], np.float32))

    sent = cascade.unsure(logits, 0.6, rescore, is_multi=False, precision="fp32")
    assert (sent.tolist(), seen) == ([0, 1], [1, 2])


def test_the_model_column_names_both_and_the_threshold() -> None:
    names = model_names({"mood": plan_of(0.62)})
    assert names == {"mood": "small@sha256:small, below 0.62 large@sha256:large"}
