"""Fine-tuning on Ray Train: the loop of ``tonearm.training`` on any number of workers, restarted where one dies.

::

    OUT/.training/FINGERPRINT/checkpoint_*    the last two step checkpoints, while a run is under way
    OUT/config.json, model.safetensors ...    the finished model

The same command after any kind of end goes on from the last checkpoint: Ray Train restarts dead workers by itself, and
a run of the same name finds its checkpoints in its storage.
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
from tonearm.training.data.splits import FAULT_FILTERED, STRATIFIED, is_gtzan
from tonearm.training.destination import LOCK, WORK, check_empty, find_finished, note_settings, remove, remove_old
from tonearm.training.fit.recipe import choose_precision
from tonearm.training.prepare import Prepared, check_space, prepare
from tonearm.training.publish.card import Comparison, main_side
from tonearm.training.publish.model_folder import write_model
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
        TrainingError: the loss is no number any more; the last good checkpoint stays in ``out``.
        Stopped: the run ended early; the same call goes on from its last checkpoint.
    """
    check_form(out, "--out")
    if settings.cache is not None:  # Ray Train starts its workers in another folder
        settings = dataclasses.replace(settings, cache=str(Path(settings.cache).absolute()))
    check_trackers(settings.trackers)
    _check_precision(settings)
    check_empty(out, overwrite)
    prepared = prepare(source, settings, num_threads=usable_cores(), progress=watcher.decoding)
    done = find_finished(out, prepared, overwrite)
    if done is not None:
        return Trained(out, done, is_new=False)
    if is_local(out):
        with filesystems.writing(out):
            Path(local_path(out)).mkdir(parents=True, exist_ok=True)
        check_space(Path(local_path(out)), prepared.num_parameters)
    with run_lock.held_at(f"{out.rstrip('/')}/{WORK}/{LOCK}", out, waiting=watcher.note) as hold:
        # Again, now that nobody else writes there: hours may have gone by since, and another run may have ended.
        check_empty(out, overwrite)
        done = find_finished(out, prepared, overwrite)
        if done is None and overwrite:
            remove_old(out)
        facts = done if done is not None else _train(source, out, prepared, watcher, hold)
        hold.check()
        remove(f"{out.rstrip('/')}/{WORK}")
    if done is not None:
        return Trained(out, done, is_new=False)
    return Trained(out, facts, is_new=True)


def _train(source: str, out: str, prepared: Prepared, watcher: Watcher, hold: run_lock.Hold) -> dict[str, Any]:
    from tonearm.distributed.training import execution  # a finished training costs no Ray

    settings = prepared.job.settings
    note_settings(out, prepared)
    for line in prepared.notes:
        watcher.note(line)
    again = _prepare_again(source, prepared, watcher)
    with execution.training_session(settings.workers, verbose=settings.verbose) as layout:
        choose_precision(settings.precision, "cuda" if layout.use_gpu else "cpu")
        result = execution.fit(out, prepared, layout, watcher, hold, name=Path(out).name)
        comparisons = []
        if again is not None:
            split = again.job.settings.labels.split_by
            watcher.note(f"once more on the split {split}, for its figures alone")
            for line in again.notes:
                watcher.note(f"{split}: {line}")
            figures = execution.fit(out, again, layout, watcher, hold, name=f"{Path(out).name}-{split}").figures(again)
            side = main_side(figures)
            if side is not None:
                comparisons.append(Comparison(split, side, figures[side]))
    hold.check()
    return write_model(out, prepared, result, source=source, comparisons=comparisons)


def _prepare_again(source: str, prepared: Prepared, watcher: Watcher) -> Prepared | None:
    """Return the run on the other split, if there is one, before hours are spent on the first."""
    settings, other = prepared.job.settings, other_split(prepared)
    if other is None:
        return None
    labels = dataclasses.replace(settings.labels, split_by=other, group_by=None)
    try:
        return prepare(source, dataclasses.replace(settings, labels=labels), num_threads=usable_cores())
    except UsageError as error:
        if settings.compare_split is not None:
            raise
        watcher.note(f"no comparison with the split {other}: {error.message}")
        return None


def _check_precision(settings: TrainSettings) -> None:
    """Refuse what this machine does not train in before anything is decoded; a cluster is asked once it is joined."""
    is_elsewhere = os.environ.get("RAY_ADDRESS") is not None
    choose_precision(settings.precision, "cuda" if is_elsewhere or count_gpus() else "cpu")


def other_split(prepared: Prepared) -> str | None:
    """Return the split on which a second run is made for its figures, or None for no second run."""
    settings = prepared.job.settings
    if settings.compare_split == "none":
        return None
    if settings.compare_split is not None:
        return settings.compare_split
    # A random split of GTZAN is known to flatter: both figures are shown.
    if settings.labels.split_by == STRATIFIED and is_gtzan(prepared.collection.tracks):
        return FAULT_FILTERED
    return None
