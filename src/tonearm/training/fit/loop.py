"""The training loop in plain torch: epochs of steps, an evaluation after each, and snapshots to resume from exactly.

A ``ProcessGroup`` says where it runs: in one process, or in the workers of Ray Train.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tonearm.errors import TrainingError
from tonearm.models.autocast import autocast
from tonearm.training.data.clips import ClipSet
from tonearm.training.fit.examples import TrainingSet, model_inputs
from tonearm.training.fit.initial_weights import Classifier, features_of, load_initial_model
from tonearm.training.fit.job import Example, TrainingJob
from tonearm.training.fit.process_group import ProcessGroup
from tonearm.training.fit.recipe import Precision, Schedule, choose_precision
from tonearm.training.fit.snapshot import Progress, Snapshot, read_snapshot
from tonearm.training.fit.step import Stepper, seed_step
from tonearm.training.judge.predictions import Predictions
from tonearm.wording import counted

# How many batches' worth of windows may wait for others of their length: 120 MB with batches of 8 windows of 30 s.
MOST_WAITING = 8

# A window's example and start in seconds, and its waveform, float32 [samples].
Window = tuple[tuple[int, float], NDArray[np.float32]]


class Loop:
    """One worker's part of a training."""

    def __init__(
        self,
        job: TrainingJob,
        clips: ClipSet,
        group: ProcessGroup,
        *,
        num_threads: int = 1,
        precision: Precision | None = None,
    ) -> None:
        """Load the weights, once for this process, and prepare the training.

        Args:
            precision: the precision of an earlier loop of the same run; chosen here if None.
        """
        settings = job.settings
        self.job, self.group, self.clips = job, group, clips
        # All workers use the first one's choice, since the machines of a cluster may differ.
        self.precision, self.why = precision or group.gather(choose_precision(settings.precision, group.device))[0]
        head = Classifier(job.labels, job.is_multi, settings.window_s)
        model, extractor = load_initial_model(job.initial, head, seed=settings.seed)
        if settings.freeze_feature_encoder:
            _freeze_feature_encoder(model)
        self.bare = model
        self.training_set = TrainingSet(job, clips, num_threads)
        self.step_size = settings.batch_size * settings.accumulate * group.size
        self.num_steps = self.training_set.num_steps(self.step_size) * settings.epochs
        wrapped, features = group.wrap(model), features_of(job.initial, extractor)
        schedule = Schedule.of(self.num_steps, settings.warmup_ratio)
        self.stepper = Stepper(job, wrapped, features, schedule, device=group.device, precision=self.precision)
        self.progress = Progress()
        self.best_weights: dict[str, torch.Tensor] | None = None

    def run(self) -> Progress:
        """Train to the end, or resume from the last snapshot.

        Raises:
            TrainingError: the loss has become NaN, or was NaN in every evaluation.
        """
        self._resume()
        self.group.tell(
            {
                "kind": "start",
                "precision": self.precision,
                "why": self.why,
                "device": self.group.device,
                "num_steps": self.num_steps,
                "step": self.progress.step,
                "step_size": self.step_size,
            }
        )
        if self.progress.is_done:
            return self.progress
        while self.progress.epoch < self.job.settings.epochs and not self._is_patience_spent():
            self._run_epoch()
        self._finish()
        return self.progress

    def _run_epoch(self) -> None:
        settings, progress = self.job.settings, self.progress
        self.stepper.model.train()
        pending: list[torch.Tensor] = []
        clock, clips, rate = time.perf_counter(), 0, 0.0
        steps = self.training_set.steps(
            progress.epoch,
            first=progress.step_in_epoch,
            step_size=self.step_size,
            micro=settings.batch_size,
            rank=self.group.rank,
            size=self.group.size,
        )
        for num_clips, batches in steps:
            # Seeded per step, so that a resumed run draws the same dropout and masks as one without interruption.
            seed_step(settings.seed, progress.step, self.group.rank)
            rate = float(self.stepper.schedule.get_last_lr()[0])
            # Losses stay on the device until they are logged: reading one waits for the device, at every step.
            pending.append(self.stepper.step(num_clips, batches, size=self.group.size))
            progress.step, progress.step_in_epoch = progress.step + 1, progress.step_in_epoch + 1
            clips += num_clips
            if progress.step % settings.log_steps == 0 or progress.step == self.num_steps:
                self._log(pending, rate, clips / (time.perf_counter() - clock))
                pending, clock, clips = [], time.perf_counter(), 0
            if progress.step % settings.checkpoint_steps == 0:
                # Check the losses since the last log first: weights full of NaN must not replace a good snapshot.
                if pending:
                    self._mean_loss(pending)
                self._save()
        if pending:
            self._log(pending, rate, clips / (time.perf_counter() - clock))
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        if progress.epoch % settings.evaluate_every == 0 or progress.epoch == settings.epochs:
            self._evaluate()
            self._save()

    def _mean_loss(self, pending: Sequence[torch.Tensor]) -> float:
        """Return the mean loss over the steps and the workers; raise TrainingError if it is NaN."""
        loss = self.group.mean(float(torch.stack(list(pending)).mean()))
        self.stepper.check(loss, self.progress.step)
        return loss

    def _log(self, pending: Sequence[torch.Tensor], rate: float, clips_per_s: float) -> None:
        loss = self._mean_loss(pending)
        self.progress.losses.append((self.progress.step, loss))
        self.group.tell(
            {
                "kind": "step",
                "step": self.progress.step,
                "epoch": self.progress.epoch,
                "loss": loss,
                "learning_rate": rate,
                "clips_per_s": clips_per_s,
            }
        )

    def _evaluate(self) -> None:
        job, progress = self.job, self.progress
        side = job.validation
        if side:
            predictions = self.predict(side)
            # Imported here because it imports scikit-learn, which takes seconds.
            from tonearm.training.fit.epoch_figures import quick

            figures = quick(predictions, job)
            progress.evaluations.append({"epoch": progress.epoch, "step": progress.step, **figures})
            loss = figures["loss"]
            value = -loss if job.metric == "loss" else figures[job.metric]
            self.group.tell({"kind": "evaluation", "step": progress.step, "epoch": progress.epoch, **figures})
        else:
            # Without validation clips every epoch counts as better than the last, so the last weights are kept.
            value, loss = float(progress.epoch), 0.0
        if progress.judge(value, loss) or job.settings.keep == "last":
            progress.kept_epoch = progress.epoch
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in self.bare.state_dict().items()}

    def _is_patience_spent(self) -> bool:
        patience = self.job.settings.patience
        return patience is not None and self.progress.without_better >= patience

    def predict(self, side: Sequence[Example]) -> Predictions:
        """Return the predictions for every window of ``side``. The workers share the work; each gets all predictions.

        The scores equal those of ``tonearm evaluate`` (tests/parity/test_training_scores.py).
        """
        numbers = range(self.group.rank, len(side), self.group.size)
        self.group.align(self.bare)
        self.bare.eval()
        scored: list[tuple[tuple[int, float], NDArray[np.float32]]] = []
        # A batch has windows of one length only: padding a window changes the scores of most families.
        for batch in _batch_by_length(self._iterate_windows(side, numbers), self.job.settings.batch_size):
            logits = self._compute_logits([waveform for _, waveform in batch])
            scored += zip([place for place, _ in batch], logits, strict=True)
        self.bare.train()
        rows = sorted((row for part in self.group.gather(scored) for row in part), key=lambda row: row[0])
        windows = [(number, start_s, scores) for (number, start_s), scores in rows]
        return Predictions.of(windows, self.job.targets(side), [example.clip for example in side])

    def _iterate_windows(self, side: Sequence[Example], numbers: Iterable[int]) -> Iterator[Window]:
        for number in numbers:
            for start_s, waveform in self.clips.clip(side[number].clip).windows():
                yield (number, start_s), waveform

    def _compute_logits(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return logits [B, L]."""
        with torch.inference_mode():
            inputs = model_inputs(self.stepper.features, waveforms, self.group.device)
            with autocast(self.group.device, self.precision):
                logits: NDArray[np.float32] = self.bare(**inputs).logits.float().cpu().numpy()
        return logits

    def _finish(self) -> None:
        """Evaluate the weights that are kept on every side, and save the last snapshot with the predictions."""
        if self.best_weights is None:
            raise TrainingError(
                f"in {counted(len(self.progress.evaluations), 'evaluation')} the loss on the validation clips was "
                "never a number, so no weights can be kept; lower --learning-rate or give --precision fp32"
            )
        self.bare.load_state_dict(self.best_weights)
        predictions = {
            name: self.predict(side)
            for name, side in (("validation", self.job.validation), ("test", self.job.test))
            if side
        }
        self.progress.is_done = True
        self._save(predictions)

    def _save(self, predictions: Mapping[str, Predictions] | None = None) -> None:
        """Save a snapshot, written by the first worker."""
        facts = {"step": self.progress.step, "epoch": self.progress.epoch}
        if self.group.rank != 0:
            self.group.save(facts, None)
            return
        # A finished run is not resumed, so its last snapshot needs no optimizer state.
        state = {} if self.progress.is_done else {"model": self.bare.state_dict(), **self.stepper.state()}
        snapshot = Snapshot(self.progress, self.step_size, state, self.best_weights)
        with snapshot.written(predictions or {}) as folder:
            self.group.save(facts, folder)

    def _resume(self) -> None:
        folder = self.group.last_snapshot()
        if folder is None:
            return
        snapshot = read_snapshot(folder)
        # The schedule and the order of clips are counted in steps, so with another step size it would be another run.
        if snapshot.step_size != self.step_size:
            workers = max(1, snapshot.step_size * self.group.size // self.step_size)
            raise TrainingError(
                f"the run to resume took {counted(snapshot.step_size, 'clip')} per step, this one takes "
                f"{self.step_size} on {counted(self.group.size, 'worker')}; give --workers {workers}, or --overwrite "
                "to start over"
            )
        self.progress, self.best_weights = snapshot.progress, snapshot.best_weights
        if snapshot.state:
            self.bare.load_state_dict(snapshot.state["model"])
            self.stepper.load_state(snapshot.state)


def _batch_by_length(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Yield batches of at most ``size`` windows of equal length; at most ``MOST_WAITING`` batches' worth is held."""
    waiting: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        batch = waiting[len(window[1])]
        batch.append(window)
        if len(batch) == size:
            yield waiting.pop(len(window[1]))
        elif sum(map(len, waiting.values())) >= MOST_WAITING * size:
            # Too many windows wait for others of their length: yield the largest batch although it is not full.
            yield waiting.pop(max(waiting, key=lambda length: len(waiting[length])))
    yield from waiting.values()


def _freeze_feature_encoder(model: nn.Module) -> None:
    """Exclude the convolutional feature encoder from training.

    Raises:
        TrainingError: the model has none.
    """
    freeze = getattr(model, "freeze_feature_encoder", None)
    if freeze is None:
        raise TrainingError(
            f"got --freeze-feature-encoder for {type(model).__name__}, which has no feature encoder; leave it out"
        )
    freeze()
