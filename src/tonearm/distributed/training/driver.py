"""Fine-tuning from the labelled collection to the model's folder, step by step.

::

    tonearm train SOURCE --out OUT

    OUT/.training/HASH/checkpoint_*           the last two snapshots, while a run is under way
    OUT/config.json, model.safetensors ...    the finished model

The same command after any kind of end resumes from the last snapshot: Ray Train restarts dead workers by itself, and a
run of the same name finds its snapshots in its storage. Nothing here loads torch or Ray before the source is listed and
split, so that what is wrong with it is said at once.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

from tonearm.models.runtimes import count_gpus, usable_cores
from tonearm.runs.destination import check_form
from tonearm.settings import TrainSettings
from tonearm.training.data.clips import open_clips
from tonearm.training.data.collection import draw, list_clips
from tonearm.training.data.duplicates import AcousticFingerprints
from tonearm.training.destination import check_empty, claimed, find_finished
from tonearm.training.fit.initial import choose_model, read_initial_model
from tonearm.training.fit.recipe import check_precision
from tonearm.training.plan import plan_comparison, plan_training
from tonearm.training.publish.trackers import check_trackers
from tonearm.watchers import Watcher

Settings = TypeVar("Settings", bound=TrainSettings)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model that is written; ``is_new`` is False where it was there already."""

    out: str
    facts: dict[str, Any]
    is_new: bool


def train(source: str, out: str, settings: TrainSettings, watcher: Watcher, *, overwrite: bool = False) -> Trained:
    """Fine-tune on the labelled collection ``source`` and write the model to ``out``.

    Raises:
        UsageError: anything that can be known to fail before hours are spent.
        TrainingError: the loss is no number any more; the last good snapshot stays in ``out``.
        Stopped: the run ended early; the same call resumes from its last snapshot.
    """
    check_beforehand(settings, out)
    settings = with_whole_path(settings)
    check_empty(out, overwrite)

    other = None if settings.compare_split == "none" else settings.compare_split
    listing = list_clips(source, settings.labels, other_split=other)
    drawn = draw(listing, settings)
    initial = read_initial_model(settings.model, revision=settings.revision, from_scratch=settings.from_scratch)
    # Before the clips are decoded: weights that are missing or of another model are refused within seconds.
    model = choose_model(initial, drawn.collection, settings)
    num_threads = usable_cores()
    clips = open_clips(
        [drawn.collection.refs], model.windows, settings, num_threads=num_threads, progress=watcher.decoding
    )
    fingerprints = AcousticFingerprints(clips)
    plan = plan_training(drawn, model, fingerprints, settings, num_threads=num_threads)

    done = find_finished(out, plan, overwrite)
    if done is not None:
        return Trained(out, done, is_new=False)
    with claimed(out, plan, watcher, overwrite=overwrite) as claim:
        if claim.done is not None:
            return Trained(out, claim.done, is_new=False)
        comparison = plan_comparison(listing, initial, fingerprints, settings, watcher.note, num_threads=num_threads)
        from tonearm.distributed.training import execution  # a finished training costs no Ray

        facts = execution.run(out, plan, comparison, watcher, claim.hold, source=source)
    return Trained(out, facts, is_new=True)


def check_beforehand(settings: TrainSettings, out: str) -> None:
    """Refuse what this machine cannot do before anything is listed."""
    check_form(out, "--out")
    check_trackers(settings.trackers)
    # A cluster is believed to have GPUs here, and asked once it is joined.
    check_precision(settings.precision, is_gpu=os.environ.get("RAY_ADDRESS") is not None or count_gpus() > 0)


def with_whole_path(settings: Settings) -> Settings:
    """Return the settings as workers take them."""
    # Ray Train starts its workers in another folder, where a relative path would be another cache.
    if settings.cache is None:
        return settings
    return dataclasses.replace(settings, cache=str(Path(settings.cache).absolute()))
