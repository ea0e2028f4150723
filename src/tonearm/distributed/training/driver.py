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
from typing import Any

from tonearm.errors import UsageError
from tonearm.models.runtimes import count_gpus, usable_cores
from tonearm.runs.destination import check_form
from tonearm.runs.lock import run_lock
from tonearm.settings import TrainSettings
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path
from tonearm.training.data.collection import Listing, list_clips
from tonearm.training.data.sides import FAULT_FILTERED, STRATIFIED, is_gtzan
from tonearm.training.destination import (
    LOCK,
    WORK,
    check_empty,
    check_space,
    find_finished,
    note_settings,
    remove,
    remove_old,
)
from tonearm.training.fit.recipe import check_precision
from tonearm.training.plan import Materials, TrainingPlan, draw, plan_training, take_in
from tonearm.training.publish.trackers import check_trackers
from tonearm.watchers import Watcher


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
    settings = _checked(settings, out)
    check_empty(out, overwrite)

    other = None if settings.compare_split == "none" else settings.compare_split
    listing = list_clips(source, settings.labels, other_split=other)
    drawn = draw(listing, settings)
    materials = take_in(drawn.collection, settings, num_threads=usable_cores(), progress=watcher.decoding)
    plan = plan_training(drawn, materials, settings, num_threads=usable_cores())

    done = find_finished(out, plan, overwrite)
    if done is not None:
        return Trained(out, done, is_new=False)
    if is_local(out):
        with filesystems.writing(out):
            Path(local_path(out)).mkdir(parents=True, exist_ok=True)
        check_space(Path(local_path(out)), plan.num_parameters)
    with run_lock.held_at(f"{out.rstrip('/')}/{WORK}/{LOCK}", out, waiting=watcher.note) as hold:
        # Checked again now that nobody else writes there: the lock may have been waited for while another run ended.
        check_empty(out, overwrite)
        done = find_finished(out, plan, overwrite)
        if done is None and overwrite:
            remove_old(out)
        facts = done if done is not None else _train(out, plan, listing, materials, watcher, hold)
        hold.check()
        remove(f"{out.rstrip('/')}/{WORK}")
    return Trained(out, facts, is_new=done is None)


def _checked(settings: TrainSettings, out: str) -> TrainSettings:
    """Return the settings as workers take them; refuse what this machine cannot do before anything is listed."""
    check_form(out, "--out")
    check_trackers(settings.trackers)
    # A cluster is believed to have GPUs here, and asked once it is joined.
    check_precision(settings.precision, is_gpu=os.environ.get("RAY_ADDRESS") is not None or count_gpus() > 0)
    # Ray Train starts its workers in another folder, where a relative path would be another cache.
    if settings.cache is not None:
        return dataclasses.replace(settings, cache=str(Path(settings.cache).absolute()))
    return settings


def _train(
    out: str, plan: TrainingPlan, listing: Listing, materials: Materials, watcher: Watcher, hold: run_lock.Hold
) -> dict[str, Any]:
    """Run the training, and another on a second split where its figures are wanted; write the model."""
    note_settings(out, plan)
    for line in plan.notes:
        watcher.note(line)
    comparison = _plan_comparison(plan, listing, materials, watcher)
    from tonearm.distributed.training import execution  # a finished training costs no Ray

    return execution.run(out, plan, comparison, watcher, hold, source=listing.source)


def _plan_comparison(
    plan: TrainingPlan, listing: Listing, materials: Materials, watcher: Watcher
) -> TrainingPlan | None:
    """Return the run on the other split, if there is one, before hours are spent on the first."""
    settings, split_by = plan.job.settings, other_split(plan)
    if split_by is None:
        return None
    labels = dataclasses.replace(settings.labels, split_by=split_by, group_by=None)
    settings = dataclasses.replace(settings, labels=labels)
    try:
        drawn = draw(listing.with_other_split(split_by), settings)
        return plan_training(drawn, materials, settings, num_threads=usable_cores())
    except UsageError as error:
        if settings.compare_split is not None:
            raise
        watcher.note(f"no comparison with the split {split_by}: {error.message}")
        return None


def other_split(plan: TrainingPlan) -> str | None:
    """Return the split on which a second run is made for its figures, or None for no second run."""
    settings = plan.job.settings
    if settings.compare_split == "none":
        return None
    if settings.compare_split is not None:
        return settings.compare_split
    # A random split of GTZAN is known to flatter: both figures are shown.
    if settings.labels.split_by == STRATIFIED and is_gtzan(plan.collection.clips.values()):
        return FAULT_FILTERED
    return None
