"""All that a worker needs to train, and no more: it is sent to each."""

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
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One clip and what is true of it: the numbers of its labels, ascending."""

    clip: ClipId
    labels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """A training with everything settled but the precision; the same on every worker.

    Attributes:
        initial: the model that it begins with.
        labels: in the order of the logits.
        windows: how a clip is cut.
        train, validation, test: the examples of each side.
        caches: where the clips are, as ``ClipSet.caches``.
    """

    settings: TrainSettings
    initial: InitialModel
    labels: tuple[str, ...]
    is_multi: bool
    windows: WindowPlan
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    # With the clips that are on no side too: a cache is found by the keys of all its clips.
    caches: tuple[Mapping[ClipId, TrackRef], ...] = ()

    @property
    def metric(self) -> str:
        """The figure that says which evaluation is best."""
        if self.settings.metric != "auto":
            return self.settings.metric
        return "macro_map" if self.is_multi else "accuracy"

    def targets(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Return what is true of examples, float32 [N, L]: 1 for each label that a clip has, else 0."""
        targets = np.zeros((len(examples), len(self.labels)), np.float32)
        for row, example in zip(targets, examples, strict=True):
            row[list(example.labels)] = 1
        return targets

    def open_clips(self, num_threads: int) -> ClipSet:
        """Return the decoded clips, on this machine; made if they are not there.

        Raises:
            Stopped: a clip of the split, which could be read when the run was planned, cannot be read here and now.
        """
        held_out = {example.clip for side in (self.validation, self.test) for example in side}
        needed = held_out | {example.clip for example in self.train}
        # Only clips of the split are tried again: what the plan left out as broken may stay broken.
        clips = open_clips(self.caches, self.windows, self.settings, num_threads=num_threads, again=needed)
        add_whole(clips, held_out, self.settings, num_threads=num_threads)
        # The plan counted on them, and on fewer clips it would be another run.
        failed = [clip for clip in clips.refs if clip in needed and clip in clips.errors]
        if failed:
            place, error = shown(clips.refs[failed[0]].uri), clips.errors[failed[0]]
            raise Stopped(
                f"{len(failed)} of {counted(len(needed), 'clip')} cannot be read any more, or not from this machine "
                f"(the first: {place}: {error.message}); the same command goes on once they can"
            )
        return clips
