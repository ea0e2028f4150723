"""The loop: what it learns, what it keeps, how it stops, and that it goes on exactly where it was."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from tests.checkpoints import save_small
from tests.labelled import job_of, loop_of, planned, train_settings
from tonearm.errors import SettingsError, TrainingError
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import ClipId
from tonearm.training.fit import epoch_figures
from tonearm.training.fit.epoch_figures import quick
from tonearm.training.fit.job import Example
from tonearm.training.fit.loop import MOST_WAITING, Loop, _by_length
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.fit.recipe import Schedule, choose_precision
from tonearm.training.fit.result import read_result
from tonearm.training.fit.snapshot import BEST, STATE, Progress
from tonearm.training.judge.predictions import Predictions, read_predictions
from tonearm.training.plan import TrainingPlan


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


def run_in(run: TrainingPlan, group: SingleProcess) -> Loop:
    loop = Loop(run.job, run.job.open_clips(2), group)
    loop.run()
    return loop


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / BEST)


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
def test_accumulated_small_batches_are_one_large_one(collection: Path, cache: Path, tmp_path: Path) -> None:
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    start = save_small(tmp_path / "still", "hubert", layerdrop=0.0, apply_spec_augment=False, **still)
    runs = [
        planned(collection, train_settings(start, cache, batch_size=batch, accumulate=parts))
        for batch, parts in ((8, 1), (2, 4))
    ]
    losses = [
        [loss for _, loss in run_in(run, SingleProcess(tmp_path / str(number))).progress.losses]
        for number, run in enumerate(runs)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


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
    for batch in _by_length((taken.append(window) or window for window in windows), 2):
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
            if loop._is_enough():
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


@pytest.mark.parametrize("is_multi", [False, True])
def test_scores_that_are_no_numbers_give_no_figures(is_multi: bool) -> None:
    targets = np.eye(2, dtype=np.float32)
    found = Predictions(
        np.array([[1.0, 0.0], [math.nan, 0.0]], np.float32), np.arange(2), np.zeros(2), targets, np.arange(2)
    )
    job = job_of(TrainSettings(), ("a", "b"), is_multi=is_multi)
    assert all(math.isnan(value) for value in quick(found, job).values())


def test_a_snapshot_of_0_1_0_is_resumed() -> None:
    values = dataclasses.asdict(Progress(epoch=3, best=0.5, best_epoch=2))
    del values["kept_epoch"], values["best_loss"]
    assert (Progress.of(values).kept_epoch, Progress.of(values).best_loss) == (2, math.inf)


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
def test_the_feature_encoder_stays_as_it_was(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    run = planned(collection, train_settings(start, cache, freeze_feature_encoder=True))
    run_in(run, SingleProcess(tmp_path))
    before, after = load_file(start / "model.safetensors"), weights(tmp_path)
    moved = {name for name in after if name in before and after[name].shape == before[name].shape
             and not torch.equal(before[name], after[name])}  # fmt: skip
    assert not any("feature_extractor" in name for name in moved)
    assert any("encoder.layers" in name for name in moved)


@pytest.mark.processes
def test_a_family_without_a_feature_encoder_says_so(
    collection: Path, ast_start: Path, cache: Path, tmp_path: Path
) -> None:
    run = planned(collection, train_settings(ast_start, cache, freeze_feature_encoder=True))
    with pytest.raises(TrainingError, match="has no feature encoder"):
        loop_of(run, tmp_path)


@pytest.mark.processes
def test_rare_classes_weigh_more_on_request(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    plain = run_in(planned(collection, train_settings(start, cache)), SingleProcess(tmp_path / "plain"))
    loop = loop_of(planned(collection, train_settings(start, cache, class_weights=True)), tmp_path / "weighted")
    counts = loop.job.targets(loop.job.train).sum(axis=0)
    assert loop.stepper.weights is not None
    np.testing.assert_allclose(loop.stepper.weights.numpy() * counts, len(loop.job.train) / 3, rtol=1e-6)
    assert plain.stepper.weights is None


@pytest.mark.processes
def test_another_number_of_clips_a_step_cannot_go_on(
    collection: Path, start: Path, cache: Path, tmp_path: Path
) -> None:
    run = planned(collection, train_settings(start, cache, checkpoint_steps=2))
    with pytest.raises(Killed):
        run_in(run, Mortal(tmp_path, 4))
    group = SingleProcess(tmp_path)
    group.size = 2
    with pytest.raises(TrainingError, match="took 4 clips a step, this one takes 8 on 2 workers; give --workers 1"):
        run_in(run, group)


def test_the_schedule_is_the_references() -> None:
    from transformers import get_linear_schedule_with_warmup

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    reference = get_linear_schedule_with_warmup(optimizer, 10, 100)
    own = Schedule.of(100, 0.1)
    for step in range(100):
        assert own.factor(step) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(
    ("precision", "device", "chosen"),
    [("auto", "cuda:0", "fp16"), ("bf16", "cuda:0", "bf16"), ("fp32", "cpu", "fp32"), ("bf16", "cpu", "bf16")],
)
def test_the_precision_fits_the_device(precision: str, device: str, chosen: str) -> None:
    assert choose_precision(precision, device)[0] == chosen


@pytest.mark.parametrize(("precision", "message"), [("fp16", "no fast fp16"), ("int8", "for scoring")])
def test_a_precision_that_does_not_train_is_refused(precision: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_precision(precision, "cpu")


@pytest.mark.processes
def test_bf16_trains(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    settings = train_settings(start, cache, precision="bf16", epochs=4, learning_rate=2e-3)
    losses = [loss for _, loss in run_in(planned(collection, settings), SingleProcess(tmp_path)).progress.losses]
    assert np.mean(losses[-4:]) < 0.9 * losses[0]
