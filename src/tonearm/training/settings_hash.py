"""What a training is known by: a hash over all that decides the weights it will end with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonearm.training.data.collection import Collection
    from tonearm.training.fit.job import TrainingJob

# Settings that say how a run is made and watched, and decide no weight.
UNDECIDING = (
    "workers",
    "max_failures",
    "trackers",
    "cache",
    "verbose",
    "fetch",
    "decode",
    "checkpoint_steps",
    "log_steps",
    "compare_split",
    "note",
    "license",
)


def settings_hash(job: TrainingJob, collection: Collection) -> str:
    """Return the hash; how a run is made and watched is no part of it."""
    facts: dict[str, Any] = dataclasses.asdict(job.settings)
    for name in UNDECIDING:
        del facts[name]
    # Clips are hashed as 0.1.0 knew them, by their places in the collection, so that its unfinished runs are resumed.
    places = {clip: place for place, clip in enumerate(collection.clips)}
    sides = [[places[example.clip] for example in side] for side in (job.train, job.validation, job.test)]
    keys = [track.ref.track_key for track in collection.clips.values()]
    text = json.dumps([facts, job.labels, sides, keys, job.initial.name], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
