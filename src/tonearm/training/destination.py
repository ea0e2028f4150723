"""What a training's --out already holds: a finished model, unfinished runs, or other files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm.errors import DestinationError
from tonearm.runs import differences
from tonearm.runs.places import TERMS
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.settings_hash import UNDECIDING

if TYPE_CHECKING:
    from tonearm.training.plan import TrainingPlan

WORK, LOCK = ".training", "lock.json"
METRICS, CONFIG = "metrics.json", "config.json"
# A snapshot holds the weights, two moments of AdamW, and the best weights so far.
COPIES_IN_SNAPSHOT = 4


def check_empty(out: str, overwrite: bool) -> None:
    """Refuse a place that holds something else, before anything is decoded."""
    if overwrite:
        return
    names = filesystems.list_files(out)
    if names and METRICS not in names and not _unfinished(out):
        raise DestinationError(
            f"{shown(out)} holds other files ({names[0]}); give an empty --out, or --overwrite to write among them"
        )


def check_space(folder: Path, num_parameters: int) -> None:
    """Refuse a local destination on which not even two snapshots fit.

    Raises:
        DestinationError: too little space.
    """
    # Ray Train keeps two snapshots; their numbers are float32, four bytes each.
    needed = 2 * COPIES_IN_SNAPSHOT * 4 * num_parameters
    place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DestinationError(
            f"snapshots need some {needed / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} GiB free; free some or "
            "give another --out"
        )


def _unfinished(out: str) -> list[str]:
    """Return the settings' hashes of the runs that have been begun there."""
    store, path = filesystems.filesystem(f"{out.rstrip('/')}/{WORK}")
    try:
        entries = store.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"}
    # The lock's folder of terms stands beside the runs.
    return sorted(names - {TERMS})


def find_finished(out: str, plan: TrainingPlan, overwrite: bool) -> dict[str, Any] | None:
    """Return what a finished run of the same settings has written to ``out``, if it has."""
    base = out.rstrip("/")
    if filesystems.exists(f"{base}/{METRICS}") and filesystems.exists(f"{base}/{CONFIG}"):
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{base}/{METRICS}"))
        if not overwrite:
            if facts.get("fingerprint") == plan.settings_hash:
                return facts
            what = _differences(facts.get("settings"), plan)
            raise DestinationError(
                f"{shown(out)} holds a model trained otherwise: {what}, another --out, or --overwrite to replace it"
            )
    begun = _unfinished(out)
    if begun and not overwrite and plan.settings_hash not in begun:
        what = _differences(_begun(out, begun[-1]), plan)
        raise DestinationError(
            f"{shown(out)} holds an unfinished run with other settings or clips: {what} to go on with it, another "
            "--out, or --overwrite to drop it"
        )
    return None


def note_settings(out: str, plan: TrainingPlan) -> None:
    """Write down the settings of a run, so that a later one with other settings can be told what differs."""
    text = json.dumps(dataclasses.asdict(plan.job.settings), indent=1, default=str)
    filesystems.write_text(f"{out.rstrip('/')}/{WORK}/{plan.settings_hash}.json", text)


def _begun(out: str, settings_hash: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{out.rstrip('/')}/{WORK}/{settings_hash}.json"))
    except (FileNotFoundError, ValueError):  # begun by an earlier tonearm
        return None
    return facts


def _differences(there: Mapping[str, Any] | None, plan: TrainingPlan) -> str:
    """Return what of the settings differs, and how to give the same."""
    now = dataclasses.asdict(plan.job.settings)
    changed = differences.changed(there, now, UNDECIDING) if there is not None else []
    if not changed:
        return "other clips or labels; give the same" if there is not None else "give the same again"
    same = " ".join(setting.match for setting in changed if setting.match) or "the same"
    return f"{'; '.join(setting.text for setting in changed)}; give {same}"


def remove_old(out: str) -> None:
    """Remove the finished model and other runs' snapshots, which could be taken for this run's."""
    # A folder without config.json is no finished model, whatever else it holds.
    filesystems.delete(f"{out.rstrip('/')}/{CONFIG}")
    for name in _unfinished(out):
        remove(f"{out.rstrip('/')}/{WORK}/{name}")


def remove(url: str) -> None:
    store, path = filesystems.filesystem(url)
    with filesystems.writing(url), contextlib.suppress(FileNotFoundError):
        store.rm(path, recursive=True)
