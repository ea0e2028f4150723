"""Find out what a training's ``--out`` already holds: a finished model, unfinished runs, or other files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tonearm.errors import DestinationError
from tonearm.runs import differences
from tonearm.runs.lock import run_lock
from tonearm.runs.places import TERMS
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path, shown
from tonearm.training.plan import UNDECIDING, TrainingPlan
from tonearm.watchers import Watcher

WORK, LOCK = ".training", "lock.json"
METRICS, CONFIG = "metrics.json", "config.json"
# A snapshot holds the weights, two moments of AdamW, and the best weights so far.
COPIES_IN_SNAPSHOT = 4


@dataclasses.dataclass(frozen=True)
class Claim:
    """A training's ``--out`` while nobody else writes there.

    Attributes:
        done: what a finished run of the same settings has written there meanwhile, if it has.
    """

    hold: run_lock.Hold
    done: dict[str, Any] | None


@contextlib.contextmanager
def claimed(out: str, plan: TrainingPlan, watcher: Watcher, *, overwrite: bool) -> Iterator[Claim]:
    """Have ``out`` for the planned training alone while the block runs; its snapshots are removed after it.

    Raises:
        DestinationError: something else is there, or there is no space.
        Stopped: another has taken the lock meanwhile.
    """
    base = out.rstrip("/")
    if is_local(out):
        with filesystems.writing(out):
            Path(local_path(out)).mkdir(parents=True, exist_ok=True)
        check_space(Path(local_path(out)), plan.num_parameters)
    with run_lock.held_at(f"{base}/{WORK}/{LOCK}", out, waiting=watcher.note) as hold:
        # Checked again now that nobody else writes there: the lock may have been waited for while another run ended.
        check_empty(out, overwrite)
        done = find_finished(out, plan, overwrite)
        if done is None:
            if overwrite:
                remove_old(out)
            note_settings(out, plan)
            for line in plan.notes:
                watcher.note(line)
        yield Claim(hold, done)
        hold.check()
        remove(f"{base}/{WORK}")


def check_empty(out: str, overwrite: bool) -> None:
    """Refuse an ``--out`` that holds other files, before anything is decoded.

    Raises:
        DestinationError: it does, and ``overwrite`` is not set.
    """
    if overwrite:
        return
    names = filesystems.list_files(out)
    if names and METRICS not in names and not _list_unfinished(out):
        raise DestinationError(
            f"{shown(out)} holds other files ({names[0]}); give an empty --out, or --overwrite to write among them"
        )


def check_space(folder: Path, num_parameters: int) -> None:
    """Refuse a local destination without space for two snapshots.

    Raises:
        DestinationError: there is too little space.
    """
    # Ray Train keeps two snapshots; their numbers are float32, four bytes each.
    needed_bytes = 2 * COPIES_IN_SNAPSHOT * 4 * num_parameters
    existing_folder = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free_bytes = shutil.disk_usage(existing_folder).free
    if free_bytes < needed_bytes:
        raise DestinationError(
            f"snapshots need some {needed_bytes / 2**30:.1f} GiB and {folder} has {free_bytes / 2**30:.1f} GiB free; "
            "free some or give another --out"
        )


def _list_unfinished(out: str) -> list[str]:
    """Return the settings hashes of the runs that were begun there, finished or not."""
    place = filesystems.locate(f"{out.rstrip('/')}/{WORK}")
    try:
        entries = place.store.ls(place.path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"}
    # The lock's folder of terms stands beside the runs.
    return sorted(names - {TERMS})


def find_finished(out: str, plan: TrainingPlan, overwrite: bool) -> dict[str, Any] | None:
    """Return the facts that a finished run of the same settings has written to ``out``; None if there is none.

    Raises:
        DestinationError: it holds a model or a run of other settings, and ``overwrite`` is not set.
    """
    base = out.rstrip("/")
    if filesystems.exists(f"{base}/{METRICS}") and filesystems.exists(f"{base}/{CONFIG}"):
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{base}/{METRICS}"))
        if not overwrite:
            # "fingerprint" is the settings hash's name in files since 0.1.0.
            if facts.get("fingerprint") == plan.settings_hash:
                return facts
            differences_text = _describe_differences(facts.get("settings"), plan)
            raise DestinationError(
                f"{shown(out)} holds a model trained otherwise: {differences_text}, another --out, or --overwrite to "
                "replace it"
            )
    unfinished = _list_unfinished(out)
    if unfinished and not overwrite and plan.settings_hash not in unfinished:
        differences_text = _describe_differences(_read_settings(out, unfinished[-1]), plan)
        raise DestinationError(
            f"{shown(out)} holds an unfinished run with other settings or clips: {differences_text} to resume it, "
            "another --out, or --overwrite to drop it"
        )
    return None


def note_settings(out: str, plan: TrainingPlan) -> None:
    """Store the settings of a run, so that the error for a later run with other settings can name the differences."""
    text = json.dumps(dataclasses.asdict(plan.job.settings), indent=1, default=str)
    filesystems.write_text(f"{out.rstrip('/')}/{WORK}/{plan.settings_hash}.json", text)


def _read_settings(out: str, settings_hash: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{out.rstrip('/')}/{WORK}/{settings_hash}.json"))
    except (FileNotFoundError, ValueError):  # begun by an earlier tonearm
        return None
    return facts


def _describe_differences(stored: Mapping[str, Any] | None, plan: TrainingPlan) -> str:
    """Return which settings differ, and the flags that make them the same."""
    current = dataclasses.asdict(plan.job.settings)
    changed = differences.changed(stored, current, UNDECIDING) if stored is not None else []
    if not changed:
        return "other clips or labels; give the same" if stored is not None else "give the same again"
    flags = " ".join(setting.match for setting in changed if setting.match) or "the same"
    return f"{'; '.join(setting.text for setting in changed)}; give {flags}"


def remove_old(out: str) -> None:
    """Remove the finished model and the snapshots of other runs, which could be taken for this run's."""
    # config.json alone is enough: without it, nothing takes the folder for a model.
    filesystems.delete(f"{out.rstrip('/')}/{CONFIG}")
    for name in _list_unfinished(out):
        remove(f"{out.rstrip('/')}/{WORK}/{name}")


def remove(url: str) -> None:
    place = filesystems.locate(url)
    with filesystems.writing(url), contextlib.suppress(FileNotFoundError):
        place.store.rm(place.path, recursive=True)
