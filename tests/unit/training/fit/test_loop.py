"""The loop: what it learns, what it keeps, how it stops, and that it goes on exactly where it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.checkpoints import save_small
from tests.labelled import job_of, loop_of, planned, train_settings
from tests.unit.training.fit.runs import run_in, weights
from tonearm.errors import TrainingError
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import ClipId
from tonearm.training.fit import epoch_figures
from tonearm.training.fit.job import Example
from tonearm.training.fit.loop import MOST_WAITING, Loop, _batch_by_length
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.fit.result import read_result
from tonearm.training.fit.snapshot import STATE, Progress
from tonearm.training.judge.predictions import read_predictions


class Killed(Exception):
    """Stands for the death of the process."""


class Mortal(SingleProcess):
    """Dies when it is told of one step, as a process killed there would."""

    def __init__(self, folder: Path, dies_at: int) -> None:
        super().__init__(folder)
        self.dies_at = dies_at

    def tell(self, event: dict[str, Any]) -> None:
        super().tell(event)
        if event["kind"] == "step" and event["step"] == self.dies_at:
            raise Killed


@pytest.mark.processes
def test_it_learns_and_keeps_the_best(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    run = planned(collection, train_settings(start, cache, epochs=6, learning_rate=2e-3))
    loop = loop_of(run, tmp_path)
    loop.run()
    result = read_result(tmp_path, run.job, {})
    accuracies = [row["accuracy"] for row in result.progress.evaluations]
    assert max(accuracies) >= 0.8
    assert result.progress.best == max(accuracies)
    assert result.progress.best_epoch == 1 + accuracies.index(max(accuracies))
    # The figures at the end are of the weights that are kept.
    kept = read_predictions(tmp_path / "predictions.npz", {"validation": run.split.validation})["validation"]
    said = kept.track_scores(is_multi=False).argmax(axis=1)
    assert np.mean(said == kept.targets.argmax(axis=1)) == pytest.approx(max(accuracies))


@pytest.mark.processes
def test_the_same_command_twice_gives_the_same_losses(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    changes = {"augment": {"mixup": 0.3, "noise_db": 20.0}, "accumulate": 2}
    run = planned(collection, train_settings(start, cache, **changes))
    first, second = run_in(run, SingleProcess(tmp_path / "a")), run_in(run, SingleProcess(tmp_path / "b"))
    assert first.progress.losses == second.progress.losses
    other = planned(collection, train_settings(start, cache, seed=7, **changes))
    assert run_in(other, SingleProcess(tmp_path / "c")).progress.losses != first.progress.losses


@pytest.mark.processes
@pytest.mark.parametrize("dies_at", [2, 5, 8])
def test_a_killed_run_ends_in_the_same_weights(
    collection: Path, start: Path, cache: Path, tmp_path: Path, dies_at: int
) -> None:
    # Dropout is on: it too must be drawn as it would have been.
    run = planned(collection, train_settings(start, cache, checkpoint_steps=2, augment={"mixup": 0.3}))
    whole = run_in(run, SingleProcess(tmp_path / "whole"))
    with pytest.raises(Killed):
        run_in(run, Mortal(tmp_path / "killed", dies_at))
    again = run_in(run, SingleProcess(tmp_path / "killed"))
    assert dict(again.progress.losses) == dict(whole.progress.losses)
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "killed")[name], weight, rtol=0, atol=0)


@pytest.mark.processes
def test_a_finished_run_is_not_run_again(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    run = planned(collection, train_settings(start, cache))
    run_in(run, SingleProcess(tmp_path))
    group = SingleProcess(tmp_path)
    run_in(run, group)
    assert [event["kind"] for event in group.events] == ["start"]


@pytest.mark.processes
def test_what_a_clip_scores_does_not_depend_on_its_batch(cache: Path, tmp_path: Path) -> None:
    """Of clips of many lengths none is padded: a checkpoint without a mask would score the padding too."""
    start = save_small(tmp_path / "start", "hubert", num_labels=2)
    rng = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / "sounds" / f"label {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number}.wav", 0.1 * rng.normal(size=int(16000 * rng.uniform(0.3, 2.6))), 16000)
    found = []
    for batch_size in (1, 8):
        settings = train_settings(start, cache, batch_size=batch_size, new_head=False)
        run = planned(tmp_path / "sounds", settings)
        found.append(loop_of(run, tmp_path / str(batch_size)).predict(run.job.train))
    np.testing.assert_array_equal(found[0].start_s, found[1].start_s)
    np.testing.assert_allclose(found[0].logits, found[1].logits, atol=1e-5)


@pytest.mark.processes
def test_held_out_clips_are_scored_whole(start: Path, cache: Path, tmp_path: Path) -> None:
    """As `tonearm evaluate` does, however few windows are kept to learn from."""
    rng = np.random.default_rng(0)
    for number in range(8):
        place = tmp_path / "sounds" / f"label {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number}.wav", 0.1 * rng.normal(size=16000 * 5 + 4000), 16000)
    run = planned(tmp_path / "sounds", train_settings(start, cache, max_windows=2, labels={"validation_share": 0.25}))
    loop = loop_of(run, tmp_path / "work")
    found = loop.predict(run.job.validation)
    assert found.start_s.tolist() == [0, 1, 2, 3, 4, 4.25] * 2
    assert len(loop.predict(run.job.train).start_s) == 2 * 6


def test_few_windows_wait_for_others_of_their_length() -> None:
    """However many lengths there are, only so many windows are held at a time."""
    lengths = [1, *range(100, 120), 1, 1]
    windows = [((number, 0.0), np.zeros(length, np.float32)) for number, length in enumerate(lengths)]
    taken, seen = [], []
    for batch in _batch_by_length((taken.append(window) or window for window in windows), 2):
        assert len({len(waveform) for _, waveform in batch}) == 1
        seen += [number for (number, _), _ in batch]
        assert len(taken) - len(seen) < 2 * MOST_WAITING
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.processes
def test_early_stopping_counts_evaluations_without_a_better_one(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    run = planned(collection, train_settings(start, cache, epochs=9, learning_rate=1e-9, patience=2))
    progress = run_in(run, SingleProcess(tmp_path)).progress
    assert progress.epoch == progress.best_epoch + 2 == 3


def judged(evaluations: list[tuple[float, float]], *, keep: str = "best", patience: int | None = None) -> Progress:
    """Return where a loop stands after these evaluations, each an accuracy and a loss, or as many as it takes."""
    loop = Loop.__new__(Loop)
    settings = TrainSettings(keep=keep, patience=patience)  # type: ignore[arg-type]
    loop.job = job_of(settings, ("a", "b"), validation=(Example(ClipId(1), (0,)),))
    loop.progress, loop.group, loop.bare = Progress(), SingleProcess(Path()), torch.nn.Linear(1, 1)
    loop.predict = lambda side: None  # type: ignore[method-assign,assignment,return-value]
    with pytest.MonkeyPatch.context() as patched:
        for accuracy, loss in evaluations:
            if loop._is_patience_spent():
                break
            figures = {"accuracy": accuracy, "loss": loss}
            patched.setattr(epoch_figures, "quick", lambda found, job, figures=figures: figures)
            loop.progress.epoch += 1
            loop._evaluate()
    return loop.progress


def test_of_two_evaluations_as_good_the_one_of_lower_loss_is_best() -> None:
    assert judged([(0.8, 0.6), (0.8, 0.4), (0.8, 0.5), (0.7, 0.1)]).best_epoch == 2


def test_an_evaluation_that_is_no_number_is_never_best() -> None:
    progress = judged([(0.2, math.nan), (math.nan, 0.1), (0.5, 0.7), (0.9, math.inf), (0.6, 0.7), (0.9, math.nan)])
    assert (progress.best, progress.best_epoch, progress.kept_epoch) == (0.6, 5, 5)
    progress = judged([(0.2, math.nan), (0.3, math.nan)])
    assert (progress.best, progress.best_epoch, progress.without_better) == (None, 0, 2)


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 4)])
def test_patience_ends_a_run_whichever_weights_it_keeps(keep: str, kept: int) -> None:
    progress = judged([(0.9, 0.1), (0.5, 0.2), (0.6, 0.2), (0.7, 0.2), (0.8, 0.2)], keep=keep, patience=3)
    assert (progress.epoch, progress.best, progress.best_epoch, progress.kept_epoch) == (4, 0.9, 1, kept)


@pytest.mark.processes
def test_a_run_without_an_evaluation_that_is_a_number_says_so(
    collection: Path, start: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(collection, train_settings(start, cache, epochs=1))
    monkeypatch.setattr(epoch_figures, "quick", lambda found, job: {"accuracy": 0.5, "macro_f1": 0.5, "loss": math.nan})
    with pytest.raises(TrainingError, match="in 1 evaluation the loss on the validation clips was never a number"):
        run_in(run, SingleProcess(tmp_path))


@pytest.mark.processes
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_snapshot(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    settings = train_settings(start, cache, checkpoint_steps=1, log_steps=3, epochs=4)
    run = planned(collection, settings)
    group = SingleProcess(tmp_path)
    loop = Loop(run.job, run.job.open_clips(2), group)
    step = loop.stepper.step

    def poisoned(*arguments: Any, **named: Any) -> Any:
        loss = step(*arguments, **named)
        return loss * math.nan if loop.progress.step >= 4 else loss

    loop.stepper.step = poisoned  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d.*lower --learning-rate"):
        loop.run()
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["progress"]["step"] == 4
    assert all(torch.isfinite(weight).all() for weight in state["model"].values())


@pytest.mark.processes
def test_another_number_of_clips_a_step_cannot_go_on(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    run = planned(collection, train_settings(start, cache, checkpoint_steps=2))
    with pytest.raises(Killed):
        run_in(run, Mortal(tmp_path, 4))
    group = SingleProcess(tmp_path)
    group.size = 2
    with pytest.raises(TrainingError, match="took 4 clips per step, this one takes 8 on 2 workers; give --workers 1"):
        run_in(run, group)


@pytest.mark.processes
def test_bf16_trains(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    settings = train_settings(start, cache, precision="bf16", epochs=4, learning_rate=2e-3)
    losses = [loss for _, loss in run_in(planned(collection, settings), SingleProcess(tmp_path)).progress.losses]
    assert np.mean(losses[-4:]) < 0.9 * losses[0]
