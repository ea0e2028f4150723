"""One optimizer step: compute the losses of this worker's batches, scale and clip the gradients, update the weights.

The loss is the mean over all clips of the step, however they are divided among workers and batches: two workers with
four clips each make the same update as one with eight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tonearm.errors import TrainingError
from tonearm.models.autocast import autocast
from tonearm.training.fit.examples import Batch, model_inputs
from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.recipe import Schedule

LEAST_SCALE = 2.0**-10
SEED_RANGE = 2**31


class Stepper:
    """The model with its loss, optimizer, schedule and gradient scaler."""

    def __init__(
        self,
        job: TrainingJob,
        model: nn.Module,
        features: nn.Module,
        schedule: Schedule,
        *,
        device: str,
        precision: str,
    ) -> None:
        settings = job.settings
        self.job, self.model, self.features = job, model, features.to(device)
        self.device, self.precision = device, precision
        self.weights = _class_weights(job).to(device) if settings.class_weights else None
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, schedule.factor)
        self.scaler = torch.amp.GradScaler(device.split(":")[0], enabled=precision == "fp16")

    def step(self, num_clips: int, batches: Sequence[Batch], *, size: int) -> Tensor:
        """Take one step; return this worker's part of the loss. The mean of the parts is the step's loss.

        Args:
            num_clips: number of clips in the step, over all workers.
            size: number of workers, over which gradients are averaged.
        """
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            # Gradients are exchanged between the workers once per step, not once per batch.
            no_sync = getattr(self.model, "no_sync", None)
            with torch.enable_grad() if is_last or no_sync is None else no_sync():
                # Averaging over the workers divides by ``size``, so this gives the mean over all clips of the step.
                loss = self.losses(batch).sum() * (size / num_clips)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        # Unscale first: the norm to clip is that of the real gradients.
        self.scaler.unscale_(self.optimizer)
        if self.job.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.job.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        return total

    def losses(self, batch: Batch) -> Tensor:
        """Return the weighted loss of each clip [B]."""
        inputs = model_inputs(self.features, batch.waveforms, self.device)
        targets, weights = batch.targets.to(self.device), batch.weights.to(self.device)
        with autocast(self.device, self.precision):
            logits = self.model(**inputs).logits
        return clip_losses(logits.float(), targets, self.job, self.weights) * weights

    def check(self, loss: float, step: int) -> None:
        """Stop the training if the loss is NaN or infinite, unless the scaler is still adjusting its scale.

        Raises:
            TrainingError: the weights are worthless, or will be after the next step.
        """
        # In fp16 the scaler skips a step whose gradients overflow, and halves its scale. Only at a very small scale is
        # the loss itself the problem.
        if math.isfinite(loss) or (self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE):
            return
        raise TrainingError(
            f"the loss is {loss} at step {step} with learning rate {self.job.settings.learning_rate:g} in "
            f"{self.precision}; lower --learning-rate or give --precision fp32; the last good snapshot is kept"
        )

    def state(self) -> dict[str, Any]:
        """Return the state that a later run needs to resume exactly here, without that of the model."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state`` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])


def clip_losses(logits: Tensor, targets: Tensor, job: TrainingJob, weights: Tensor | None = None) -> Tensor:
    """Return the loss of each clip [B]: cross entropy, or the mean over labels of binary cross entropy.

    With a teacher of a single label it is the Kullback-Leibler divergence from the teacher's scores (arXiv:1503.02531),
    which has the gradient of the cross entropy and is 0 where both agree.

    Args:
        logits, targets: [B, L].
        weights: weights of the classes [L]; with several labels per clip, weights of their presence.
    """
    smoothing = job.settings.label_smoothing
    if job.is_multi:
        if smoothing:
            targets = targets * (1 - smoothing) + smoothing / 2
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weights)
        return losses.mean(dim=1)
    if job.soft is not None:
        log_scores = nn.functional.log_softmax(logits, dim=1)
        return nn.functional.kl_div(log_scores, targets, reduction="none").sum(dim=1)
    return nn.functional.cross_entropy(logits, targets, reduction="none", weight=weights, label_smoothing=smoothing)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed dropout and masking by the seed, the step and the worker."""
    # So a resumed run draws the same numbers. The rank is included because all workers would else drop the same units.
    value = (seed * 1_000_003 + step * 101 + rank) % SEED_RANGE
    torch.manual_seed(value)
    # transformers draws the masks of speech encoders (SpecAugment) with numpy's global generator.
    np.random.seed(value)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: matrices, with weight decay; biases and norms, without. As ``transformers.Trainer`` does."""
    norms = {
        f"{name}.{inner}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d)
        for inner, _ in module.named_parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (undecayed if name in norms or name.endswith("bias") else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]


def _class_weights(job: TrainingJob) -> Tensor:
    """Return [L]: for one label, inverse frequency with mean 1; for several, absences over presences."""
    targets = torch.from_numpy(job.targets(job.train))
    present = targets.sum(dim=0).clamp_min(1)
    if job.is_multi:
        return ((len(targets) - present) / present).clamp(1, 100)
    return len(targets) / (targets.shape[1] * present)
