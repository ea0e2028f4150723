"""The job that is sent to each training worker, with all that it needs and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.windows import WindowPlan
from tonearm.errors import Stopped
from tonearm.settings import TrainSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import shown
from tonearm.training.data.clips import ClipSet, add_whole, open_clips
from tonearm.training.data.collection import ClipId
from tonearm.training.fit.initial import InitialModel
from tonearm.training.fit.soft_targets import SoftTargets
from tonearm.training.judge.predictions import Predictions
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A clip and the indices of its labels, ascending."""

    clip: ClipId
    labels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """A training in which everything except the precision is settled; the same on every worker.

    Attributes:
        initial: the model that it begins with.
        labels: in the order of the logits.
        windows: the windows that clips are cut into.
        train, validation, test: the examples of each side.
        caches: the clips of each cache and their locations, as in ``ClipSet.caches``.
        soft: a teacher's scores of the clips' windows, which are then the targets; the labels of examples are not used.
    """

    settings: TrainSettings
    initial: InitialModel
    labels: tuple[str, ...]
    is_multi: bool
    windows: WindowPlan
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    # Includes clips that are on no side: the key of a cache is made of all its clips.
    caches: tuple[Mapping[ClipId, TrackRef], ...] = ()
    soft: SoftTargets | None = None

    @property
    def metric(self) -> str:
        """The name of the figure by which the best evaluation is chosen."""
        if self.settings.metric != "auto":
            return self.settings.metric
        return "macro_map" if self.is_multi else "accuracy"

    def targets(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Return the targets of examples, float32 [N, L]: 1 for each label that a clip has, else 0.

        With a teacher they are the mean of its scores over the clip's windows.
        """
        if self.soft is not None:
            return self.soft.means([example.clip for example in examples])
        targets = np.zeros((len(examples), len(self.labels)), np.float32)
        for row, example in zip(targets, examples, strict=True):
            row[list(example.labels)] = 1
        return targets

    def window_targets(self, predictions: Predictions) -> NDArray[np.float32]:
        """Return the targets of each window of some predictions, float32 [W, L]: its clip's, or the teacher's."""
        if self.soft is None:
            return predictions.targets[predictions.owner]
        return self.soft.nearest(predictions.clips[predictions.owner], predictions.start_s)

    def open_clips(self, num_threads: int) -> ClipSet:
        """Return the clips, after decoding those that this machine does not have in its cache.

        Raises:
            Stopped: a clip of the split could be read when the run was planned, but cannot be read here and now.
        """
        held_out = {example.clip for side in (self.validation, self.test) for example in side}
        needed = held_out | {example.clip for example in self.train}
        # Only clips of the split are tried again: those that the plan left out as broken need not be readable.
        clips = open_clips(self.caches, self.windows, self.settings, num_threads=num_threads, again=needed)
        # A teacher has scored only the windows of the plan, so others have no targets.
        if self.soft is None:
            add_whole(clips, held_out, self.settings, num_threads=num_threads)
        # Without them it would be another run than the planned one.
        failed = [clip for clip in clips.refs if clip in needed and clip in clips.errors]
        if failed:
            place, error = shown(clips.refs[failed[0]].uri), clips.errors[failed[0]]
            raise Stopped(
                f"{len(failed)} of {counted(len(needed), 'clip')} cannot be read any more, or not from this machine "
                f"(the first: {place}: {error.message}); the same command resumes once they can"
            )
        return clips
