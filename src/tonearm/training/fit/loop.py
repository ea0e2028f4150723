"""The training loop, plain torch: epochs of steps, an evaluation after each, checkpoints from which it goes on exactly.

Who runs it is told by a ``World``: one process, or one of Ray Train's workers.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tonearm.errors import TrainingError
from tonearm.models.families import family_of
from tonearm.training.data.cache import ClipCache
from tonearm.training.data.examples import Example, TrainingSet, model_inputs
from tonearm.training.fit.initial import Start, load_start
from tonearm.training.fit.recipe import Job, Schedule, autocast_type, choose_precision
from tonearm.training.fit.step import Stepper, seed_step
from tonearm.training.judge import metrics
from tonearm.wording import counted

STATE, BEST, PREDICTIONS = "state.pt", "best.safetensors", "predictions.npz"
# Batches of windows that wait for others of their length: with 8 windows of 30 s each, 120 MB.
MOST_WAITING = 8

# A window's example and start in seconds, and its waveform, float32 [samples].
Window = tuple[tuple[int, float], NDArray[np.float32]]


class World(Protocol):
    """Where a loop runs. Every method but ``tell`` is called by all workers, equally often."""

    rank: int
    size: int
    device: str

    def wrap(self, model: nn.Module) -> nn.Module: ...
    def align(self, model: nn.Module) -> None: ...
    def mean(self, value: float) -> float: ...
    def gather(self, value: Any) -> list[Any]: ...
    def save(self, facts: dict[str, Any], folder: Path | None) -> None: ...
    def saved(self) -> Path | None: ...
    def tell(self, event: dict[str, Any]) -> None: ...


class Alone:
    """A world of one process, without Ray; its checkpoint is one folder."""

    rank, size = 0, 1

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.events: list[dict[str, Any]] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model on the device."""
        return model.to(self.device)

    def align(self, model: nn.Module) -> None:
        """Leave the only model as it is."""

    def mean(self, value: float) -> float:
        """Return the value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]

    def save(self, facts: dict[str, Any], folder: Path | None) -> None:
        """Keep the checkpoint in place of the last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()) if folder is not None else []:
            (self.folder / path.name).write_bytes(path.read_bytes())

    def saved(self) -> Path | None:
        """Return the last checkpoint."""
        return self.folder if (self.folder / STATE).is_file() else None

    def tell(self, event: dict[str, Any]) -> None:
        """Keep the event."""
        self.events.append(event)


@dataclasses.dataclass
class Progress:
    """Where a run stands; part of every checkpoint.

    Attributes:
        best, best_loss, best_epoch: of the best evaluation so far.
        kept_epoch: whose weights are kept, which with ``keep = "last"`` are not the best's.
        without_better: evaluations since the best.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float | None = None
    best_loss: float = math.inf
    best_epoch: int = 0
    kept_epoch: int = 0
    without_better: int = 0
    is_done: bool = False
    losses: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    evaluations: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Progress:
        """Return what a checkpoint says, also one of 0.1.0, whose kept epoch was its best."""
        progress = cls(**{"kept_epoch": values["best_epoch"], **values})
        if progress.best is not None and not math.isfinite(progress.best):
            progress.best = None
        progress.losses = [(int(step), float(loss)) for step, loss in progress.losses]
        return progress

    def judge(self, value: float, loss: float) -> bool:
        """Take in the evaluation of the present epoch; return whether it is the best so far.

        Of two as good the one of lower loss is better, and one that is no number is never better.
        """
        is_better = math.isfinite(value) and math.isfinite(loss)
        if is_better and self.best is not None:
            is_better = (value, -loss) > (self.best, -self.best_loss)
        self.without_better = 0 if is_better else self.without_better + 1
        if is_better:
            self.best, self.best_loss, self.best_epoch = value, loss, self.epoch
        return is_better


class Loop:
    """One worker's part of a training run."""

    def __init__(self, job: Job, start: Start, cache: ClipCache, world: World, *, num_threads: int = 1) -> None:
        settings = job.settings
        self.job, self.world, self.cache = job, world, cache
        self.precision, self.why = choose_precision(settings.precision, world.device)
        model, extractor = load_start(
            start, job.labels, is_multi=job.is_multi, seed=settings.seed, window_s=settings.window_s
        )
        if settings.freeze_feature_encoder:
            _freeze(model)
        self.extractor, self.bare = extractor, model
        self.training_set = TrainingSet(cache, job.train, job.plan, settings.augment, settings.seed, num_threads)
        self.step_size = settings.batch_size * settings.accumulate * world.size
        self.num_steps = self.training_set.num_steps(self.step_size) * settings.epochs
        wrapped, features = world.wrap(model), family_of(start.family).features(extractor)
        schedule = Schedule.of(self.num_steps, settings.warmup_ratio)
        self.stepper = Stepper(job, wrapped, features, schedule, device=world.device, precision=self.precision)
        self.progress = Progress()
        self.best_weights: dict[str, torch.Tensor] | None = None

    def run(self) -> Progress:
        """Train to the end, or go on to it from the last checkpoint.

        Raises:
            TrainingError: the loss is no number any more, or was none at any evaluation.
        """
        self._resume()
        self.world.tell(
            {
                "kind": "start",
                "precision": self.precision,
                "why": self.why,
                "device": self.world.device,
                "num_steps": self.num_steps,
                "step": self.progress.step,
                "step_size": self.step_size,
            }
        )
        if self.progress.is_done:
            return self.progress
        while self.progress.epoch < self.job.settings.epochs and not self._is_enough():
            self._epoch()
        self._finish()
        return self.progress

    def _epoch(self) -> None:
        settings, progress = self.job.settings, self.progress
        self.stepper.model.train()
        pending: list[torch.Tensor] = []
        clock, clips, rate = time.perf_counter(), 0, 0.0
        steps = self.training_set.steps(
            progress.epoch,
            first=progress.step_in_epoch,
            step_size=self.step_size,
            micro=settings.batch_size,
            rank=self.world.rank,
            size=self.world.size,
        )
        for num_clips, batches in steps:
            seed_step(settings.seed, progress.step, self.world.rank)
            rate = float(self.stepper.schedule.get_last_lr()[0])
            pending.append(self.stepper.step(num_clips, batches, size=self.world.size))
            progress.step, progress.step_in_epoch = progress.step + 1, progress.step_in_epoch + 1
            clips += num_clips
            if progress.step % settings.log_steps == 0 or progress.step == self.num_steps:
                self._log(pending, rate, clips / (time.perf_counter() - clock))
                pending, clock, clips = [], time.perf_counter(), 0
            if progress.step % settings.checkpoint_steps == 0:
                if pending:  # before worthless weights take a good checkpoint's place
                    self._mean_loss(pending)
                self._checkpoint()
        if pending:
            self._log(pending, rate, clips / (time.perf_counter() - clock))
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        if progress.epoch % settings.evaluate_every == 0 or progress.epoch == settings.epochs:
            self._evaluate()
            self._checkpoint()

    def _mean_loss(self, pending: Sequence[torch.Tensor]) -> float:
        """Return the mean over the steps and the workers; stop where it is no number."""
        loss = self.world.mean(float(torch.stack(list(pending)).mean()))
        self.stepper.check(loss, self.progress.step)
        return loss

    def _log(self, pending: Sequence[torch.Tensor], rate: float, clips_per_s: float) -> None:
        loss = self._mean_loss(pending)
        self.progress.losses.append((self.progress.step, loss))
        self.world.tell(
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
            found = self.predict(side)
            figures = metrics.quick(found, job)
            progress.evaluations.append({"epoch": progress.epoch, "step": progress.step, **figures})
            loss = figures["loss"]
            value = -loss if job.metric == "loss" else figures[job.metric]
            self.world.tell({"kind": "evaluation", "step": progress.step, "epoch": progress.epoch, **figures})
        else:
            value, loss = float(progress.epoch), 0.0  # nothing to choose by: the last is kept
        if progress.judge(value, loss) or job.settings.keep == "last":
            progress.kept_epoch = progress.epoch
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in self.bare.state_dict().items()}

    def _is_enough(self) -> bool:
        patience = self.job.settings.patience
        return patience is not None and self.progress.without_better >= patience

    def predict(self, side: Sequence[Example]) -> metrics.Predictions:
        """Return the scores of every window of ``side``, the work shared between the workers, all of them told.

        They are those of ``tonearm evaluate``: windows of one length share a pass, since padding a window to another's
        length changes what most families say of it (tests/parity/test_training_scores.py).
        """
        own = range(self.world.rank, len(side), self.world.size)
        self.world.align(self.bare)
        self.bare.eval()
        scored: list[tuple[tuple[int, float], NDArray[np.float32]]] = []
        for batch in _by_length(self._windows(side, own), self.job.settings.batch_size):
            logits = self._score([waveform for _, waveform in batch])
            scored += zip([place for place, _ in batch], logits, strict=True)
        self.bare.train()
        rows = sorted((row for part in self.world.gather(scored) for row in part), key=lambda row: row[0])
        return metrics.Predictions(
            np.stack([scores for _, scores in rows]),
            np.array([number for (number, _), _ in rows]),
            np.array([start_s for (_, start_s), _ in rows]),
            np.array([example.target for example in side], np.float32),
            np.array([example.clip for example in side]),
        )

    def _windows(self, side: Sequence[Example], numbers: Iterable[int]) -> Iterator[Window]:
        for number in numbers:
            for start_s, waveform in self.cache.clip(side[number].clip).windows(self.job.plan):
                yield (number, start_s), waveform

    def _score(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return logits [B, L]."""
        dtype = autocast_type(self.precision)
        with torch.inference_mode():
            inputs = model_inputs(self.stepper.features, waveforms, self.world.device)
            with torch.autocast(self.world.device.split(":")[0], dtype=dtype, enabled=dtype is not None):
                logits: NDArray[np.float32] = self.bare(**inputs).logits.float().cpu().numpy()
        return logits

    def _finish(self) -> None:
        """Judge the weights that are kept on every side, and say so in the last checkpoint."""
        if self.best_weights is None:
            raise TrainingError(
                f"in {counted(len(self.progress.evaluations), 'evaluation')} the loss on the validation clips was "
                "never a number, so no weights can be kept; lower --learning-rate or give --precision fp32"
            )
        self.bare.load_state_dict(self.best_weights)
        found = {
            name: self.predict(side)
            for name, side in (("validation", self.job.validation), ("test", self.job.test))
            if side
        }
        self.progress.is_done = True
        self._checkpoint(found)

    def _checkpoint(self, predictions: dict[str, metrics.Predictions] | None = None) -> None:
        facts = {"step": self.progress.step, "epoch": self.progress.epoch}
        if self.world.rank != 0:
            self.world.save(facts, None)
            return
        with tempfile.TemporaryDirectory(prefix="tonearm-checkpoint-") as name:
            folder = Path(name)
            state: dict[str, Any] = {"progress": dataclasses.asdict(self.progress), "step_size": self.step_size}
            if not self.progress.is_done:
                state |= {"model": self.bare.state_dict(), **self.stepper.state()}
            torch.save(state, folder / STATE)
            if self.best_weights is not None:
                from safetensors.torch import save_file

                save_file({name: weight.contiguous() for name, weight in self.best_weights.items()}, folder / BEST)
            if predictions:
                metrics.write_predictions(folder / PREDICTIONS, predictions)
            self.world.save(facts, folder)

    def _resume(self) -> None:
        folder = self.world.saved()
        if folder is None:
            return
        # Nothing but tensors and plain values was written, so nothing else is read.
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        if state["step_size"] != self.step_size:
            workers = max(1, state["step_size"] * self.world.size // self.step_size)
            raise TrainingError(
                f"the run to go on with took {counted(state['step_size'], 'clip')} a step, this one takes "
                f"{self.step_size} on {counted(self.world.size, 'worker')}; give --workers {workers}, or --overwrite "
                "to begin anew"
            )
        self.progress = Progress.of(state["progress"])
        if (folder / BEST).is_file():
            from safetensors.torch import load_file

            self.best_weights = load_file(folder / BEST)
        if "model" in state:
            self.bare.load_state_dict(state["model"])
            self.stepper.load_state(state)


def _by_length(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Yield batches of at most ``size`` windows of one length, holding ``MOST_WAITING`` batches' worth at most."""
    waiting: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        batch = waiting[len(window[1])]
        batch.append(window)
        if len(batch) == size:
            yield waiting.pop(len(window[1]))
        elif sum(map(len, waiting.values())) >= MOST_WAITING * size:
            yield waiting.pop(max(waiting, key=lambda length: len(waiting[length])))
    yield from waiting.values()


def _freeze(model: nn.Module) -> None:
    """Keep the convolutions in front as they are.

    Raises:
        TrainingError: a family without them.
    """
    freeze = getattr(model, "freeze_feature_encoder", None)
    if freeze is None:
        raise TrainingError(
            f"got --freeze-feature-encoder for {type(model).__name__}, which has no feature encoder; leave it out"
        )
    freeze()
