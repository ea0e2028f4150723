"""Make the examples of a training step from cached clips. Order and crops depend only on the seed, the epoch and the
clip, not on the number of workers or on where a run was resumed.

Letters in shapes: B clips, S samples, L labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.training.data.augment import augment, generator, mix
from tonearm.training.data.clips import ClipSet
from tonearm.training.fit.job import TrainingJob

Floats = NDArray[np.float32]
SHUFFLE, CLIP, PARTNER = 0, 1, 2
BATCHES_AHEAD = 3


@dataclasses.dataclass(frozen=True)
class Batch:
    """The clips of one forward pass: B waveforms float32 [S], targets [B, L], weights [B] (0 for padding clips)."""

    waveforms: list[Floats]
    targets: Tensor
    weights: Tensor


class TrainingSet:
    """The training clips of a job."""

    def __init__(self, job: TrainingJob, clips: ClipSet, num_threads: int = 1) -> None:
        self.clips, self.examples, self.plan = clips, job.train, job.windows
        self.soft, self.targets = job.soft, job.targets(job.train)
        self.settings, self.seed, self.num_threads = job.settings.augment, job.settings.seed, num_threads

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's permutation of the examples."""
        return generator(self.seed, SHUFFLE, epoch).permutation(len(self.examples))

    def num_steps(self, step_size: int) -> int:
        """Return the number of optimizer steps per epoch; the last one may have fewer clips."""
        return math.ceil(len(self.examples) / step_size)

    def steps(
        self, epoch: int, *, first: int, step_size: int, micro: int, rank: int, size: int
    ) -> Iterator[tuple[int, list[Batch]]]:
        """Yield ``(clips in the step over all workers, this worker's batches)`` from step ``first`` on.

        Args:
            step_size: clips of a step over all workers.
            micro: clips a worker takes at once.
        """
        order = self.order(epoch)
        steps = []
        for step in range(first, self.num_steps(step_size)):
            clips = order[step * step_size : (step + 1) * step_size]
            worker_clips = np.array_split(clips, size)[rank]
            # In a short last step a worker may have no clip. It then takes one with weight 0: every worker has to take
            # part, or the others would wait for its gradients.
            weights = np.ones(len(worker_clips), np.float32) if len(worker_clips) else np.zeros(1, np.float32)
            worker_clips = worker_clips if len(worker_clips) else clips[:1]
            parts = [
                (worker_clips[start : start + micro], weights[start : start + micro])
                for start in range(0, len(worker_clips), micro)
            ]
            # For the same reason all workers take equally many batches.
            num_batches = math.ceil(math.ceil(len(clips) / size) / micro)
            parts += [(worker_clips[:1], np.zeros(1, np.float32))] * (num_batches - len(parts))
            steps.append((len(clips), parts))
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="examples") as pool:
            # Batches are made in order while the model computes, a few ahead.
            parts_in_order = [part for _, parts in steps for part in parts]
            waiting = [pool.submit(self._make_batch, *part, epoch) for part in parts_in_order[:BATCHES_AHEAD]]
            position = len(waiting)
            for num_clips, parts in steps:
                batches = []
                for _ in parts:
                    batches.append(waiting.pop(0).result())
                    if position < len(parts_in_order):
                        waiting.append(pool.submit(self._make_batch, *parts_in_order[position], epoch))
                        position += 1
                yield num_clips, batches

    def _make_batch(self, numbers: NDArray[np.int64], weights: Floats, epoch: int) -> Batch:
        pairs = [self.example(int(number), epoch) for number in numbers]
        targets = torch.from_numpy(np.stack([target for _, target in pairs]))
        return Batch([waveform for waveform, _ in pairs], targets, torch.from_numpy(weights))

    def example(self, number: int, epoch: int) -> tuple[Floats, Floats]:
        """Return the waveform float32 [S] and target float32 [L] of one example in one epoch."""
        waveform, target = self._crop(number, epoch, CLIP)
        if self.settings.mixup:
            rng = generator(self.seed, PARTNER, epoch, number)
            other, share = (
                int(rng.integers(len(self.examples))),
                float(rng.beta(self.settings.mixup, self.settings.mixup)),
            )
            # The clip itself is always the larger part, so no example is mostly another clip.
            share = max(share, 1 - share)
            second, label = self._crop(other, epoch, PARTNER)
            waveform, target = mix(waveform, second, share), (share * target + (1 - share) * label).astype(np.float32)
        return waveform, target

    def _crop(self, number: int, epoch: int, purpose: int) -> tuple[Floats, Floats]:
        example = self.examples[number]
        rng = generator(self.seed, CLIP, purpose, epoch, number)
        stream, length = self.clips.clip(example.clip).stream, self.plan.window_samples
        # A teacher has scored only the windows of the plan, so only these can be crops.
        if self.soft is not None:
            starts = self.plan.starts(stream.num_samples)
            start = starts[int(rng.integers(len(starts))) if self.settings.crop else len(starts) // 2]
            target = self.soft.nearest([example.clip], np.array([start / self.plan.sample_rate]))[0]
            return augment(stream.window(int(start), length), self.plan.sample_rate, self.settings, rng), target
        # Choose uniformly among all starts at which a window lies within one decoded stretch.
        num_starts = np.array([max(stop - start - length, 0) + 1 for start, stop in stream.spans])
        choice = int(rng.integers(num_starts.sum())) if self.settings.crop else int(num_starts.sum() // 2)
        span = int(np.searchsorted(np.cumsum(num_starts), choice, side="right"))
        first, last = stream.spans[span]
        start = first + int(choice - (np.cumsum(num_starts)[span] - num_starts[span]))
        waveform = stream.window(start, min(length, last - start))
        return augment(waveform, self.plan.sample_rate, self.settings, rng), self.targets[number]


def model_inputs(features: nn.Module, waveforms: Sequence[Floats], device: torch.device | str) -> dict[str, Tensor]:
    """Return the model's inputs for waveforms of any lengths.

    Waveforms of equal length are computed together. Shorter ones are padded after normalizing, with a mask if the model
    uses one, as the extractor of transformers does; or with silence before it (``Features.pads_sound``).

    Args:
        features: a module of ``models.features.build_features``.
    """
    lengths = sorted({len(waveform) for waveform in waveforms})
    if getattr(features, "pads_sound", False):
        waveforms = [np.pad(waveform, (0, lengths[-1] - len(waveform))) for waveform in waveforms]
        lengths = lengths[-1:]
    if len(lengths) == 1:
        return dict(features(_to_device(np.stack(waveforms), device)))
    rows: list[dict[str, Tensor]] = [{} for _ in waveforms]
    for length in lengths:
        indices = [index for index, waveform in enumerate(waveforms) if len(waveform) == length]
        features_of_length = features(_to_device(np.stack([waveforms[index] for index in indices]), device))
        for row, index in enumerate(indices):
            rows[index] = {name: value[row] for name, value in features_of_length.items()}
    inputs = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        inputs[name] = (
            nn.utils.rnn.pad_sequence(values, batch_first=True) if values[0].ndim == 1 else torch.stack(values)
        )
    if getattr(features, "return_attention_mask", False) and "input_values" in inputs:
        longest = torch.arange(inputs["input_values"].shape[1], device=device)
        counts = torch.tensor([len(waveform) for waveform in waveforms], device=device)
        inputs["attention_mask"] = (longest[None, :] < counts[:, None]).long()
    return inputs


def _to_device(array: NDArray[np.float32], device: torch.device | str) -> Tensor:
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
