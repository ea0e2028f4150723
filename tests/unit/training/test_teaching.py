"""A teacher's scores belong to the windows that its student hears, and what cannot be taught is refused at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints import save_small
from tests.graphs import LABELS, save_described
from tests.labelled import job_of, planned, train_settings, write_folders
from tonearm.audio.windows import WindowPlan
from tonearm.distributed.training import distill as driver
from tonearm.errors import CheckpointError, SourceError, UsageError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.cost import Cost
from tonearm.models.exported.cost import multiply_adds
from tonearm.settings import DistillSettings
from tonearm.training.data.augment import mix
from tonearm.training.data.collection import ClipId
from tonearm.training.fit.examples import TrainingSet
from tonearm.training.fit.initial import read_initial_model
from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.soft_targets import SoftTargets
from tonearm.training.fit.step import clip_losses
from tonearm.training.plan import TrainingPlan, settings_hash
from tonearm.training.teaching import Teacher, check_smaller, windows_at
from tonearm.watchers import Watcher

PLAN = WindowPlan(16000, 15600, 7800, 32, 400)
TEACHER = Teacher("yamnet", "r", ("a", "b"), True, PLAN, None, 3_700_000, 70_000_000)


def taught(run: TrainingPlan, num_labels: int) -> TrainingJob:
    """Return the job with scores that say which clip a window is of, and where it starts."""
    clips = run.job.open_clips(2)
    windows = {}
    for number, clip in enumerate(run.collection.clips):
        starts = run.job.windows.starts(clips.clip(clip).stream.num_samples) / run.job.windows.sample_rate
        scores = np.zeros((len(starts), num_labels), np.float32)
        scores[:, 0], scores[:, 1] = number / 64, starts / 4
        windows[clip] = (starts, scores)
    return dataclasses.replace(run.job, soft=SoftTargets.of(("t",), windows))


@pytest.fixture(scope="module")
def run(collection: Path, start: Path, cache: Path) -> TrainingPlan:
    settings = train_settings(start, cache, window_s=0.5, labels={"duplicates": "ignore"})
    return planned(collection, settings)


@pytest.mark.processes
def test_the_score_is_that_of_the_window_which_the_student_hears(run: TrainingPlan) -> None:
    job = taught(run, 3)
    clips = job.open_clips(2)
    examples = TrainingSet(job, clips)
    seen = set()
    for number in range(len(job.train)):
        for epoch in range(4):
            waveform, target = examples.example(number, epoch)
            clip, start_s = list(run.collection.clips)[round(float(target[0]) * 64)], float(target[1]) * 4
            assert clip == job.train[number].clip
            stream = clips.clip(clip).stream
            starts = job.windows.starts(stream.num_samples)
            start = int(starts[np.abs(starts / stream.sample_rate - start_s).argmin()])
            np.testing.assert_array_equal(waveform, stream.window(start, job.windows.window_samples))
            seen.add((number, start))
    assert len(seen) > len(job.train)  # another window in another epoch


@pytest.mark.processes
def test_mixup_mixes_sounds_and_scores_alike(run: TrainingPlan) -> None:
    plain = taught(run, 3)
    settings = dataclasses.replace(
        plain.settings, augment=dataclasses.replace(plain.settings.augment, mixup=0.4, crop=False)
    )
    clips = plain.open_clips(2)
    mixed = TrainingSet(dataclasses.replace(plain, settings=settings), clips)
    still = dataclasses.replace(settings, augment=dataclasses.replace(settings.augment, mixup=0.0))
    alone = TrainingSet(dataclasses.replace(plain, settings=still), clips)
    each = [alone.example(number, 0) for number in range(len(plain.train))]
    waveform, target = mixed.example(0, 0)
    shares = [
        (other, (target[0] - label[0]) / (each[0][1][0] - label[0]))
        for other, (_, label) in enumerate(each)
        if label[0] != each[0][1][0]
    ]
    assert any(
        0.5 <= share <= 1 and np.allclose(mix(each[0][0], each[other][0], float(share)), waveform, atol=1e-3)
        for other, share in shares
    )


def test_windows_are_found_by_their_starts() -> None:
    one, other = ClipId(7), ClipId(9)
    scores = np.arange(10, dtype=np.float32).reshape(5, 2) / 16
    soft = SoftTargets.of(
        ("t",), {one: (np.array([0.0, 0.5, 1.0]), scores[:3]), other: (np.array([0.0, 0.4]), scores[3:])}
    )
    found = soft.nearest([other, one, one, other], np.array([0.401, 0.999, 0.0, 0.0]))
    np.testing.assert_array_equal(found, scores[[4, 2, 0, 3]])
    np.testing.assert_array_equal(soft.means([one]), scores[:3].mean(axis=0, keepdims=True))
    assert soft.fits(one, np.array([0.0, 0.51])) and not soft.fits(one, np.array([0.25]))
    assert not soft.fits(ClipId(1), np.array([0.0]))


def test_the_loss_is_the_divergence_from_the_teacher() -> None:
    """Nothing where both say the same, for one label and for several; against SciPy's entropy in between."""
    from scipy.stats import entropy

    soft = SoftTargets(("t",), np.zeros(1), np.zeros((1, 3), np.float16), {})
    job = dataclasses.replace(job_of(DistillSettings(), ("a", "b", "c")), soft=soft)
    logits = torch.tensor([[0.3, -1.0, 2.0], [1.0, 1.0, -3.0]])
    said = logits.softmax(dim=1)
    torch.testing.assert_close(clip_losses(logits, said, job), torch.zeros(2), atol=1e-6, rtol=0)
    teacher = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    expected = [entropy(want.numpy(), have.numpy()) for want, have in zip(teacher, said, strict=True)]
    np.testing.assert_allclose(clip_losses(logits, teacher, job).numpy(), expected, rtol=1e-5)
    multi = dataclasses.replace(job, is_multi=True)
    scores = logits.sigmoid()
    least = clip_losses(logits, scores, multi)
    assert (clip_losses(logits + 0.1, scores, multi) > least).all()


@pytest.mark.processes
def test_another_teacher_is_another_training(run: TrainingPlan) -> None:
    job = taught(run, 3)
    assert job.soft is not None
    other = dataclasses.replace(job, soft=dataclasses.replace(job.soft, teacher=("u",)))
    hashes = {settings_hash(each, run.collection) for each in (run.job, job, other)}
    assert len(hashes) == 3


def test_the_student_hears_the_same_seconds_at_its_own_rate(tmp_path: Path) -> None:
    student = read_initial_model("mn04", from_scratch=True)
    plan = windows_at(student, TEACHER)
    assert (plan.sample_rate, plan.window_samples, plan.hop_samples, plan.max_windows) == (32000, 31200, 15600, 32)
    for num_samples in (8000, 16000, 160_000, 1_600_000):
        np.testing.assert_allclose(plan.starts(2 * num_samples) / 32000, PLAN.starts(num_samples) / 16000, atol=1e-4)
    fixed = dataclasses.replace(student, from_scratch=False, native_window_s=0.5)
    with pytest.raises(CheckpointError, match=r"takes at most 0\.5 s at once.*--window-s 0\.5"):
        windows_at(fixed, TEACHER)


def test_a_student_that_costs_no_less_is_refused() -> None:
    check_smaller("mn04", Cost(9_000_000, 10_000_000), TEACHER)
    with pytest.raises(
        CheckpointError, match=r"mn10 has 80\.0 million multiply-adds a window and its teacher yamnet 70\.0"
    ):
        check_smaller("mn10", Cost(1, 80_000_000), TEACHER)
    unknown = dataclasses.replace(TEACHER, multiply_adds=None)
    with pytest.raises(CheckpointError, match=r"9\.0 million parameters and its teacher yamnet 3\.7"):
        check_smaller("mn10", Cost(9_000_000, 1), unknown)


@pytest.mark.processes
def test_multiply_adds_of_a_graph_are_those_of_its_layers(tmp_path: Path) -> None:
    info = describe_checkpoint(str(save_described(tmp_path / "wave")))
    assert info.digest is not None and info.sidecar.model is not None
    assert multiply_adds(info.digest, info.sidecar.model) == 6 * len(LABELS)


@pytest.mark.processes
def test_what_cannot_be_taught_is_said_before_any_work(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No labels, a student that is larger, a hundred seconds of audio: one line each, and nothing scored."""

    def scored(*_: object) -> None:
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(driver, "score_library", scored)
    large = save_small(tmp_path / "teacher", "hubert")
    small = save_small(tmp_path / "small", "mobilenet_audio", num_labels=7)
    bare = save_small(tmp_path / "bare", "hubert", num_labels=3)
    config = json.loads((bare / "config.json").read_text())
    names = {str(number): f"LABEL_{number}" for number in range(3)}
    config |= {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
    (bare / "config.json").write_text(json.dumps(config))
    settings = DistillSettings(model=str(small), cache=str(tmp_path / "cache"), trackers=())

    def refused(teacher: Path, kind: type[UsageError], match: str, **changes: object) -> None:
        with pytest.raises(kind, match=match):
            changed = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
            driver.distill(str(teacher), str(collection), str(tmp_path / "out"), changed, Watcher())
        assert not (tmp_path / "out").exists()

    refused(bare, CheckpointError, "names none of its 3 labels")
    wave = save_described(tmp_path / "wave")
    refused(wave, CheckpointError, "and its teacher wave 0.0: it would cost no less", model="mn04", window_s=None)
    refused(large, SourceError, r"got 4\d s of audio in 30 tracks .* expected at least 10.0 min", window_s=0.5)


def test_labels_of_the_collection_are_no_part_of_the_split(tmp_path: Path) -> None:
    """A folder with one track, which no class may have, is as good as any other."""
    write_folders(tmp_path / "sounds", clips=1, classes=4)
    settings = DistillSettings(labels=dataclasses.replace(DistillSettings().labels, validation_share=0.25))
    listing = driver.list_library(str(tmp_path / "sounds"), settings)
    drawn = driver.draw_library(listing, TEACHER, settings)
    assert (len(drawn.split.train), len(drawn.split.validation)) == (3, 1)
    known = dataclasses.replace(TEACHER, labels=("flute", "bird"))
    assert sorted(driver.check_truth(listing, known, None).values()) == [(0,), (1,)]
    with pytest.raises(SourceError, match="none of the labels by folder"):
        driver.check_truth(listing, TEACHER, "folder")
